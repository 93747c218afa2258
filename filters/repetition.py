"""Repetition inside one answer: lines, n-grams, and single phrases.

The n-gram measures are those of Gopher (Rae et al. 2021, arXiv 2112.11446, table A1): the share of
characters that lie in duplicated n-grams, and in occurrences of the most frequent one. Gopher's bounds
are for web pages; the defaults here are wider, since stories for children repeat on purpose.
"""

import unicodedata
from collections import Counter
from typing import Annotated, Literal

import regex
from pydantic import Field

from filters.base import Filter
from pipeline.records import Check, Record

Share = Annotated[float, Field(ge=0, le=1)]
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


class Repetition(Filter):
    """Drops answers that repeat themselves: lines, word n-grams, or a phrase used too often."""

    kind: Literal["repetition"] = "repetition"
    max_line_share: Annotated[Share, Field(description="characters in lines that stood before")] = 0.5
    max_top_share: Annotated[Share, Field(description="characters in the most frequent `n`-gram")] = 0.3
    max_duplicate_share: Annotated[Share, Field(description="characters in duplicated `long_n`-grams")] = 0.5
    n: Annotated[int, Field(ge=1)] = 3
    long_n: Annotated[int, Field(ge=1)] = 8
    at_most: Annotated[dict[str, int], Field(description="phrase: how many times it may stand in an answer")] = {}

    def judge(self, record: Record) -> Check:
        """The largest share of repeated characters; the reason names the measure that failed."""
        text = unicodedata.normalize("NFC", record.answer).casefold()
        for phrase, most in self.at_most.items():
            count = text.count(unicodedata.normalize("NFC", phrase).casefold())
            if count > most:
                return self.no(count, "repeated_phrase", f"{phrase!r} stands {count} times, over {most}")
        words = _WORD.findall(text)
        measured = (
            ("repeated_lines", repeated_lines(text), self.max_line_share),
            ("repeated_ngram", top_ngram(words, self.n), self.max_top_share),
            ("duplicate_ngrams", duplicate_ngrams(words, self.long_n), self.max_duplicate_share),
        )
        for reason, share, bound in measured:
            if share > bound:
                return self.no(share, reason, f"{share:.0%} of the characters, over {bound:.0%}")
        return self.yes(max(share for _, share, _ in measured))


def repeated_lines(text: str) -> float:
    """Share of characters in lines that stood before in the text."""
    lines = [line for raw in text.splitlines() if (line := raw.strip())]
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        repeated += len(line) if line in seen else 0
        seen.add(line)
    return repeated / max(1, sum(map(len, lines)))


def top_ngram(words: list[str], n: int) -> float:
    """Share of characters in the occurrences of the most frequent n-gram, if it occurs twice or more.

    Occurrences that overlap count their common words once, so the share never passes 1.
    """
    grams = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    if not grams:
        return 0.0
    top, count = max(grams.items(), key=lambda item: (item[1] * sum(map(len, item[0])), item[0]))
    if count < 2:
        return 0.0
    covered = {i + k for i in range(len(words) - n + 1) if tuple(words[i : i + n]) == top for k in range(n)}
    return sum(len(words[i]) for i in covered) / sum(map(len, words))


def duplicate_ngrams(words: list[str], n: int) -> float:
    """Share of characters in n-grams that stood before, every character counted once."""
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for i in range(len(words) - n + 1):
        gram = tuple(words[i : i + n])
        if gram in seen:
            covered.update(range(i, i + n))
        seen.add(gram)
    return sum(len(words[i]) for i in covered) / max(1, sum(map(len, words)))
