"""Gopher's quality rules for documents, for rows that grow from web pages or books (`doc_qa`, logs).

Words, their mean length, symbols, bullets, ellipses, words with a letter, stop words: Rae et al. 2021, arXiv
2112.11446, appendix A.1.1. The paper's bounds (50 words, two English stop words, 80 % of words with a letter) drop
short answers, sums, code and everything Korean, so the defaults only catch what is no language at all; the paper's
are `{min_words: 50, min_mean_chars: 3, max_mean_chars: 10, max_symbols: 0.1, max_bullet_lines: 0.9,
max_ellipsis_lines: 0.3, min_alphabetic: 0.8, min_stop_words: 2}`.
"""

from collections.abc import Iterator
from functools import cached_property
from math import inf
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from filters.base import Measure, TextFilter
from filters.text import folded_words, spaced
from filters.text import words as split
from pipeline.records import Check

Share = Annotated[float, Field(ge=0, le=1)]
_PUNCTUATION = bytes(n for n in range(33, 128) if not chr(n).isalnum())
FEWEST = 10  # words from which shares say something
_BARE = bytes(n for n in range(33, 128) if not chr(n).isalpha())
_TYPOGRAPHIC = "“”‘’„«»—–•…·、。"


class Bound(NamedTuple):
    """One measure against the settings `min_` and `max_` with its name; `of` is what was measured, for people."""

    name: str
    value: float
    low: float
    high: float
    under: str
    over: str
    of: str


class Gopher(TextFilter):
    """Drops texts that are no prose by Gopher's measures; with the paper's bounds, a rule for documents."""

    kind: Literal["gopher"] = "gopher"
    min_words: Annotated[int, Field(ge=0, description="words that are more than marks")] = 0
    max_words: Annotated[int, Field(ge=1, description="words that are more than marks")] = 100_000
    min_mean_chars: Annotated[float, Field(ge=0, description="mean length of a word")] = 1.0
    max_mean_chars: Annotated[float, Field(ge=0, description="mean length of a word")] = 100.0
    max_symbols: Annotated[float, Field(ge=0, description="hashes, and ellipses, for each word")] = 0.5
    max_bullet_lines: Annotated[Share, Field(description="share of lines that begin with a bullet")] = 1.0
    max_ellipsis_lines: Annotated[Share, Field(description="share of lines that end with an ellipsis")] = 0.5
    min_alphabetic: Annotated[Share, Field(description="share of words with a letter")] = 0.0
    min_stop_words: Annotated[int, Field(ge=0, description="different stop words that have to stand")] = 0
    stop_words: Annotated[tuple[str, ...], Field(description="the words that `min_stop_words` counts")] = (
        "the", "be", "to", "of", "and", "that", "have", "with",
    )  # fmt: skip

    @cached_property
    def _stop_words(self) -> frozenset[str]:
        return frozenset(self.stop_words)

    def measure(self, text: str) -> Check:
        """The first measure out of its bounds; of a text that passes, the number of words."""
        words = 0.0
        for found in self._measures(text):
            words = words or found.value
            if not found.low <= found.value <= found.high:
                low = found.value < found.low
                bound = f"under {found.low:g}" if low else f"over {found.high:g}"
                return self.no(
                    found.value, found.under if low else found.over, f"{found.value:.3g} {found.of}, {bound}"
                )
        return self.yes(words, "words")

    def measured(self, text: str) -> Iterator[Measure]:
        """Every measure that a text is long enough for, against each of its bounds."""
        for found in self._measures(text):
            low = Measure(f"min_{found.name}", "min", found.low, found.value)
            high = Measure(f"max_{found.name}", "max", found.high, found.value)
            yield from (one for one in (low, high) if one.setting in type(self).model_fields)

    def _measures(self, text: str) -> Iterator[Bound]:
        parts = text.split()
        kept = _without(text, _PUNCTUATION)
        words = len(kept)
        yield Bound("words", words, self.min_words, self.max_words, "too_few_words", "too_many_words", "words")
        if len(parts) < FEWEST:
            return
        symbols = max(text.count("#"), text.count("...") + text.count("…")) / len(parts)
        yield Bound("symbols", symbols, 0, self.max_symbols, "", "many_symbols", "hashes or ellipses for each word")
        if words:
            mean = sum(map(len, kept)) / words
            low, high = self.min_mean_chars, self.max_mean_chars
            yield Bound("mean_chars", mean, low, high, "short_words", "long_words", "characters in a word")
        lines = [line for raw in text.splitlines() if (line := raw.strip())]
        bullets = sum(line.startswith(("•", "-", "*")) for line in lines) / len(lines)
        yield Bound("bullet_lines", bullets, 0, self.max_bullet_lines, "", "bullet_lines", "of the lines are bullets")
        ellipses = sum(line.endswith(("...", "…")) for line in lines) / len(lines)
        of = "of the lines end in an ellipsis"
        yield Bound("ellipsis_lines", ellipses, 0, self.max_ellipsis_lines, "", "ellipsis_lines", of)
        lettered = min(1.0, len(_without(text, _BARE)) / len(parts))  # Han and kana are more words than parts
        yield Bound("alphabetic", lettered, self.min_alphabetic, inf, "few_letters", "", "of the words have a letter")
        if self.min_stop_words:
            count = len(self._stop_words.intersection(folded_words(text)))
            most = len(self.stop_words)
            yield Bound("stop_words", count, self.min_stop_words, most, "few_stop_words", "", "stop words")


def _without(text: str, marks: bytes) -> list[str]:
    """What is left of each word without some ASCII characters and typographic marks; Han and kana are words each."""
    if text.isascii():
        return text.encode().translate(None, marks).decode().split()
    for mark in _TYPOGRAPHIC:
        text = text.replace(mark, "")
    if not spaced(text):
        return split(text)
    return text.encode(errors="replace").translate(None, marks).decode().split()
