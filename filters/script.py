"""Which script the answer is written in."""

from typing import Annotated, ClassVar, Literal

import regex
from pydantic import Field, field_validator

from filters.base import Filter
from pipeline.records import Check, Record

_LETTER = regex.compile(r"\p{L}")


class Script(Filter):
    """Drops answers with too small a share of letters in the wanted script (digits, spaces, marks left out)."""

    bounds: ClassVar = (("min_share", "min"),)

    kind: Literal["script"] = "script"
    script: Annotated[str, Field(description="Unicode script: Hangul, Latin, Han, Hiragana, Cyrillic...")] = "Latin"
    min_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    @field_validator("script")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            known = value.replace("_", "").isalpha() and bool(regex.compile(rf"\p{{Script={value}}}"))
        except regex.error:
            known = False
        if not known:
            raise ValueError(f"{value!r} is no Unicode script; for example Hangul, Latin, Han")
        return value

    def judge(self, record: Record) -> Check:
        """Letters of the script over all letters."""
        letters = len(_LETTER.findall(record.answer))
        if not letters:
            return self.no(0, "no_letters")
        inside = len(regex.findall(rf"(?=\p{{L}})\p{{Script={self.script}}}", record.answer))
        share = inside / letters
        if share < self.min_share:
            return self.no(share, "wrong_script", f"{share:.0%} {self.script}, under {self.min_share:.0%}")
        return self.yes(share)
