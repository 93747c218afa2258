"""Which script a text is written in, and whether it slips into another one."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import regex
from pydantic import Field, field_validator

from filters import tongues
from filters.base import Measure, TextFilter
from filters.text import prose
from pipeline.records import Check, Record

_BEYOND = re.compile(r"[^\x00-\x7f]+")
_NO_LETTER = bytes(n for n in range(128) if not chr(n).isalpha())
# Words of another script in brackets or quotes are spoken of: 대한민국(大韓民國), the word "привет". A Greek letter
# on its own is a symbol.
_MENTIONED = regex.compile(
    r"\([^()\n]*\)|（[^（）\n]*）|\[[^\[\]\n]*\]|「[^」\n]*」|『[^』\n]*』|《[^》\n]*》|“[^”\n]*”|‘[^’\n]*’|«[^»\n]*»"
    r"|\"[^\"\n]*\"|'[^'\n]*'|`[^`\n]*`|(?<!\p{Greek})\p{Greek}(?!\p{Greek})"
)
INSIDE, ALLOWED, OTHER = "inside", "allowed", "other"


class Letters(NamedTuple):
    """How many letters of a text are in the wanted script, in allowed ones, and in others."""

    inside: int
    allowed: int
    other: int


class Script(TextFilter):
    """Drops texts with too few letters in the wanted script, or with words in a script that is not allowed.

    Digits, spaces, marks and code are on no side. Scripts that the prompt uses, or asks for by a language's name, pass.
    """

    bounds: ClassVar = (("min_share", "min"),)

    kind: Literal["script"] = "script"
    script: Annotated[str, Field(description="Unicode script: Hangul, Latin, Han, Hiragana, Cyrillic...")] = "Latin"
    min_share: Annotated[float, Field(ge=0, le=1, description="share of letters in the script")] = 0.5
    allowed: Annotated[tuple[str, ...], Field(description="scripts that may stand beside it")] = ("Latin",)
    max_other: Annotated[float, Field(ge=0, le=1, description="share of letters in scripts not allowed")] = 0.005

    @field_validator("script", "allowed")
    @classmethod
    def _known(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            try:
                known = name.replace("_", "").isalpha() and bool(_letter_of(name))
            except regex.error:
                known = False
            if not known:
                raise ValueError(f"{name!r} is no Unicode script; for example Hangul, Latin, Han")
        return value

    def measure(self, text: str) -> Check:
        """Letters of the script over all letters; the detail of a text with foreign words has their share."""
        letters = self._letters(text := prose(text))
        total = sum(letters)
        if not total:
            return self.yes(1.0, "no letters")
        share = letters.inside / total
        if share < self.min_share:
            return self.no(share, "wrong_script", f"{share:.0%} {self.script}, under {self.min_share:.0%}")
        if letters.other > self.max_other * total:
            other = self._letters(spoken := _MENTIONED.sub(" ", text)).other / total
            if other > self.max_other:
                words = [w for w in regex.findall(r"\p{L}+", spoken) if self._letters(w).other][:3]
                detail = f"{other:.1%} of the letters, over {self.max_other:.1%}: {' '.join(words)[:80]!r}"
                return self.no(share, "foreign_script", detail)
        return self.yes(share)

    def judge(self, record: Record) -> Check:
        """As `measure`; an answer in scripts that the prompt asks for or uses passes."""
        check = super().judge(record)
        if check.passed or self.on != "answer":
            return check
        wider = self._wider(record.prompt, used=check.reason == "foreign_script")
        if wider is self or not wider.measure(record.answer).passed:
            return check
        return self.yes(check.value, "the prompt asks for it")

    def measured(self, text: str) -> Iterator[Measure]:
        """The share of letters in scripts that are not allowed."""
        if total := sum(self._letters(text := prose(text))):
            yield Measure("max_other", "max", self.max_other, self._letters(_MENTIONED.sub(" ", text)).other / total)

    def measures(self, record: Record) -> Iterator[Measure]:
        """As of any text, or of an answer in the scripts that are its own by what the prompt asks for and uses."""
        if self.on != "answer":
            yield from super().measures(record)
            return
        asked, used = (self._wider(record.prompt, used=also) for also in (False, True))
        yield from asked.bounded(asked.measure(record.answer).value)
        yield from used.measured(record.answer)

    def _wider(self, prompt: str, *, used: bool) -> "Script":
        """The rule for an answer in scripts that the prompt asks for, or also in those it uses, if there are any."""
        asked = [s for code in tongues.named(prompt) for s in tongues.scripts(code) if s != self.script]
        if used:
            asked += [name for name in tongues.SCRIPTS if _letter_of(name).search(prompt)]
        scripts = "|".join(dict.fromkeys((self.script, *asked)))
        return self if scripts == self.script else self.model_copy(update={"script": scripts})

    def _letters(self, text: str) -> Letters:
        sides = _sides(self.script, self.allowed)
        counts = {INSIDE: 0, ALLOWED: 0, OTHER: 0, "": 0}
        counts[sides["a"]] = len(text.encode("ascii", "ignore").translate(None, _NO_LETTER))
        if not text.isascii():
            for char in "".join(_BEYOND.findall(text)):
                counts[sides[char]] += 1
        return Letters(counts[INSIDE], counts[ALLOWED], counts[OTHER])


class _Sides(dict[str, str]):
    """Character: which side it counts for; found out once for each character."""

    def __init__(self, script: str, allowed: tuple[str, ...]) -> None:
        self.inside = regex.compile("|".join(_pattern(name) for name in script.split("|")))
        self.allowed = regex.compile("|".join(_pattern(name) for name in allowed) or r"(?!)")

    def __missing__(self, char: str) -> str:
        side = INSIDE if self.inside.match(char) else ALLOWED if self.allowed.match(char) else OTHER
        self[char] = side if regex.match(r"(?=\p{L})[^\p{Common}\p{Inherited}]", char) else ""
        return self[char]


@cache
def _sides(script: str, allowed: tuple[str, ...]) -> _Sides:
    return _Sides(script, allowed)


def _pattern(name: str) -> str:
    return rf"(?=\p{{L}})\p{{Script={name}}}"


@cache
def _letter_of(name: str) -> "regex.Pattern[str]":
    return regex.compile(_pattern(name))
