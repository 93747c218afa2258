"""Finding thousands of words and phrases in one pass over a text, as words rather than as letters in a row.

What ends a word depends on its script. Latin, Cyrillic and Greek words end where letters of these scripts end,
so `AI` stands in `AI가` and not in `MAIL`. A Hangul word begins where Hangul begins and may carry particles, the
copula or 하다 and 되다 (`로봇이`, `로봇에게서`, `로봇입니다`), but is not found inside a longer noun (`로봇` in
`로봇공학`). Han and kana are written without spaces: such words are found anywhere.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import regex

from filters.text import normal

_SPACED = r"\p{Latin}\p{Cyrillic}\p{Greek}\p{M}\p{N}"
_JOSA = (
    "이|가|은|는|을|를|의|에|에서|에게|에게서|에겐|께|께서|께선|한테|한테서|더러|로|으로|로서|으로서|로써|으로써|로부터|으로부터|와|과|랑|이랑|하고|"
    "도|만|까지|부터|마저|조차|밖에|처럼|같이|만큼|보다|대로|마다|씩|뿐|나|이나|든|든지|라도|란|라|라고|라는|라면|며|면|고|다|야|여|아|요|죠|지|네|"
    "니|냐|냐고|엔|에는|에도|에만|이란|이라|커녕|치고|따라|서"
)
_ENDINGS = "이|인|일|임|입|였|예|하|한|할|함|합|해|했|되|된|될|됨|됩|돼|됐|당|시키|시켰|스럽|스러|스런|적|다운|답"
_ENDS = {
    "spaced": regex.compile(rf"(?![{_SPACED}])"),
    "hangul": regex.compile(rf"(?:들|님|씨)?(?:(?:{_JOSA}){{0,4}}(?!\p{{Hangul}})|(?:{_ENDINGS})\p{{Hangul}}*+)"),
}
_BEGINS = {"spaced": regex.compile(rf"(?<![{_SPACED}])"), "hangul": regex.compile(r"(?<!\p{Hangul})")}


class Word(NamedTuple):
    """A word as it was listed, the form it is searched in, and where it may begin and end."""

    listed: str
    form: str
    begins: str
    ends: str


class WordList:
    """Words and phrases; a `*` after the last letter lets anything follow (`robot*`)."""

    def __init__(self, listed: Iterable[str]) -> None:
        self.listed = tuple(dict.fromkeys(listed))

    def __reduce__(self) -> tuple[type["WordList"], tuple[tuple[str, ...]]]:
        return WordList, (self.listed,)  # the automaton is built again where it is needed

    @cached_property
    def words(self) -> list[Word]:
        """The words, in the order they were listed."""
        return [_word(listed) for listed in self.listed if normal(listed)]

    @cached_property
    def _automaton(self) -> Any:
        from ahocorasick_rs import AhoCorasick

        return AhoCorasick([word.form for word in self.words])

    def found(self, text: str) -> Iterator[str]:
        """The listed words that stand in a text, by the place where each ends."""
        if not self.words:
            return
        text = normal(text)
        for at, start, end in self._automaton.find_matches_as_indexes(text, overlapping=True):
            word = self.words[at]
            begins, ends = _BEGINS.get(word.begins), _ENDS.get(word.ends)
            if (begins is None or begins.match(text, start)) and (ends is None or ends.match(text, end)):
                yield word.listed


def _word(listed: str) -> Word:
    form = normal(listed)
    open_end = len(form) > 1 and form.endswith("*") and form[-2].isalpha()
    form = form.removesuffix("*") if open_end else form
    return Word(listed.strip(), form, _script(form[0]), "" if open_end else _script(form[-1]))


def _script(char: str) -> str:
    if regex.match(rf"[{_SPACED}]", char):
        return "spaced"
    return "hangul" if regex.match(r"\p{Hangul}", char) else ""
