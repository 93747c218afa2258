"""Repetition inside one text: lines, paragraphs, n-grams, a looping end, single phrases, compressibility.

The measures are Gopher's (Rae et al. 2021, arXiv 2112.11446, table A1) as shares of characters; its counts of
lines are left out, since a brace or a refrain weighs as much there as a copied paragraph. Its bounds are for
web pages and drop tables, code and songs: the defaults are wider, and what a model repeats until its tokens run
out is found as a looping end instead. C4's other rules (Raffel et al. 2020, arXiv 1910.10683: braces, marks at
the ends of lines, three sentences at least) say nothing about answers.
"""

import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from filters import ngrams
from filters.base import Measure, TextFilter
from filters.text import folded_words, normal
from pipeline.records import Check

Share = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[int, Field(ge=2, le=50)]
WINDOW = 200_000  # characters of a longer text, its last ones, that are measured
CHARACTERS = 10  # length of a character n-gram: a Korean word or two with their particles
FEWEST_CHARACTERS = 100  # of which character n-grams are taken
FEWEST_BYTES = 400  # below that a compression ratio says more about zlib's header than about the text


class Repeated(NamedTuple):
    """One measure against the setting that bounds it; `of` says what was counted."""

    setting: str
    reason: str
    value: float
    bound: float
    of: str

    @property
    def detail(self) -> str:
        """The measure for people."""
        if self.reason == "compressible":
            return f"compresses {self.value:g} times"
        return f"{self.value:.0%} of the characters: {self.of}"

    @property
    def strain(self) -> float:
        """How near the bound; over 1 fails."""
        return self.value / self.bound if self.bound else float(self.value > 0) * 2


class Repetition(TextFilter):
    """Drops texts that repeat themselves: lines, paragraphs, n-grams, a looping end, a phrase used too often."""

    kind: Literal["repetition"] = "repetition"
    max_line_share: Annotated[Share, Field(description="characters in lines that stood before")] = 0.5
    max_paragraph_share: Annotated[Share, Field(description="characters in paragraphs that stood before")] = 0.5
    max_loop_share: Annotated[Share, Field(description="characters in one unit repeated to the text's end")] = 0.15
    max_top: Annotated[
        dict[Length, Share], Field(description="{n: characters in the most frequent word n-gram} (Gopher: 2, 3, 4)")
    ] = {2: 0.6, 3: 0.55, 4: 0.5}
    max_duplicate: Annotated[
        dict[Length, Share], Field(description="{n: characters in word n-grams that stood before} (Gopher: 5 to 10)")
    ] = {5: 0.65, 10: 0.55}
    max_character_share: Annotated[
        Share, Field(description="characters in character 10-grams that stood before; for texts mostly outside ASCII")
    ] = 0.8
    max_compression: Annotated[
        float | None, Field(gt=1, description="bytes over zlib-compressed bytes, of 400 bytes and more")
    ] = 8.0
    min_words: Annotated[int, Field(ge=0, description="n-grams of shorter texts are not judged")] = 50
    at_most: Annotated[dict[str, int], Field(description="phrase: how many times it may stand in a text")] = {}

    @cached_property
    def _phrases(self) -> dict[str, tuple[str, int]]:
        return {normal(phrase): (phrase, most) for phrase, most in self.at_most.items()}

    def measure(self, text: str) -> Check:
        """The measure that failed first; of a text that passes, the one nearest its bound, which `detail` names."""
        phrases = normal(text) if self._phrases else ""
        for folded, (phrase, most) in self._phrases.items():
            if (count := phrases.count(folded)) > most:
                return self.no(count, "repeated_phrase", f"{phrase!r} stands {count} times, over {most}")
        nearest, strain = Repeated("", "", 0.0, 1.0, ""), 0.0
        for found in self._repeated(text):
            if found.value > found.bound:
                bound = f"{found.bound:g}" if found.reason == "compressible" else f"{found.bound:.0%}"
                return self.no(found.value, found.reason, f"{found.detail}, over {bound}")
            if found.strain > strain:
                nearest, strain = found, found.strain
        return self.yes(nearest.value, nearest.detail if nearest.reason else "")

    def measured(self, text: str) -> Iterator[Measure]:
        """Every measure that a text is long enough for; n-grams that do not repeat are a share of 0."""
        for folded, (phrase, most) in self._phrases.items():
            yield Measure(f"at_most.{phrase}", "max", most, normal(text).count(folded))
        found = {one.setting: Measure(one.setting, "max", one.bound, one.value) for one in self._repeated(text)}
        if len(folded_words(text[-WINDOW:])) >= self.min_words:
            for name, bounds in (("max_top", self.max_top), ("max_duplicate", self.max_duplicate)):
                for n, bound in bounds.items():
                    found.setdefault(f"{name}.{n}", Measure(f"{name}.{n}", "max", bound, 0.0))
        yield from found.values()

    def _repeated(self, text: str) -> Iterator[Repeated]:
        """Cheap ones first, and of n-grams only those that repeat."""
        text = text[-WINDOW:]
        data = text.encode(errors="replace")
        if len(data) >= ngrams.LOOP:
            yield from self._ends_and_lines(text)
        words = folded_words(text)
        if len(words) >= self.min_words:
            yield from self._ngrams(words)
        if len(data) > 1.5 * len(text) and len(text) >= FEWEST_CHARACTERS:
            repeated = ngrams.character_duplicates(normal(text), CHARACTERS)
            of = f"{CHARACTERS}-character sequences that stood before"
            yield Repeated("max_character_share", "repeated_characters", repeated, self.max_character_share, of)
        if self.max_compression is not None and len(data) >= FEWEST_BYTES:
            ratio = round(len(data) / len(zlib.compress(data, 1)), 2)
            yield Repeated("max_compression", "compressible", ratio, self.max_compression, "")

    def _ends_and_lines(self, text: str) -> Iterator[Repeated]:
        share, of = ngrams.repeated_lines(text), "lines that stood before"
        yield Repeated("max_line_share", "repeated_lines", share, self.max_line_share, of)
        share, of = ngrams.repeated_paragraphs(text), "paragraphs that stood before"
        yield Repeated("max_paragraph_share", "repeated_paragraphs", share, self.max_paragraph_share, of)
        loop = ngrams.loop(text)
        share = min(1.0, loop.chars / max(1, len(normal(text))))
        of = f"{loop.unit[:60]!r} to the end"
        yield Repeated("max_loop_share", "looping_end", share, self.max_loop_share, of)

    def _ngrams(self, words: ngrams.Gram) -> Iterator[Repeated]:
        chars = max(1, ngrams.total(words))
        for found in ngrams.repeats(words, max((*self.max_top, *self.max_duplicate), default=0)):
            if (bound := self.max_top.get(found.n)) is not None:
                gram, covered = ngrams.top(words, found)
                of = f"the {found.n}-gram {' '.join(gram)[:60]!r}"
                yield Repeated(f"max_top.{found.n}", "repeated_ngram", covered / chars, bound, of)
            if (bound := self.max_duplicate.get(found.n)) is not None:
                covered = ngrams.duplicates(words, found)
                of = f"{found.n}-grams that stood before"
                yield Repeated(f"max_duplicate.{found.n}", "duplicate_ngrams", covered / chars, bound, of)
