"""What repeats in a text, as shares of its characters: lines, word n-grams, character n-grams, a looping end.

The shares of n-grams are Gopher's (Rae et al. 2021, arXiv 2112.11446, table A1): characters in occurrences of
the most frequent n-gram, and characters in n-grams that stood before. Characters are those of the words, and
none is counted twice.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from filters.text import normal

Gram = tuple[str, ...]
_PARAGRAPH = re.compile(r"\n\s*\n")
_ITEM = re.compile(r"^[ \t]*(?:[-*•·]|\(?\d{1,4}[.):]|\d{1,3}(?:단계|번)[.):]?)[ \t]+", re.MULTILINE)
_LETTER = re.compile(r"[^\W\d_]")
PROBE = 32  # characters of the end that are looked for further up
LOOP, BARE_LOOP, TURNS = 60, 200, 3  # shortest loop in bytes, shortest one without a letter, fewest turns


class Repeats(NamedTuple):
    """The n-grams of one length that stand more than once: how often, and where each of them begins."""

    n: int
    counts: dict[Gram, int]
    begins: list[int]


class Loop(NamedTuple):
    """A unit repeated to the end of a text, and how many characters the repetition takes."""

    unit: str
    chars: int


def repeated_lines(text: str) -> float:
    """Share of characters in lines that stood before."""
    return _stood_before(map(str.strip, text.splitlines()))


def repeated_paragraphs(text: str) -> float:
    """Share of characters in paragraphs (blank lines between) that stood before."""
    return _stood_before(map(str.strip, _PARAGRAPH.split(text))) if "\n" in text else 0.0


def _stood_before(parts: Iterable[str]) -> float:
    seen = Counter(parts)
    again = sum(len(part) * (count - 1) for part, count in seen.items() if count > 1)
    return again / sum(len(part) * count for part, count in seen.items()) if again else 0.0


def repeats(words: Gram, longest: int) -> Iterator[Repeats]:
    """The repeated n-grams for n = 2, 3 ... `longest`, as long as there are any.

    An n-gram can only repeat where both n-1-grams in it do, so each length looks at what the last one left.
    """
    grams: list[Gram] = list(itertools.pairwise(words))
    begins: Sequence[int] = range(len(grams))
    for n in range(2, longest + 1):
        counts = Counter(grams)
        if len(counts) == len(grams):
            return
        repeated = [i for i, count in zip(begins, map(counts.__getitem__, grams), strict=True) if count > 1]
        yield Repeats(n, {gram: count for gram, count in counts.items() if count > 1}, repeated)
        begins = [i for i, after in itertools.pairwise(repeated) if after == i + 1]
        grams = [words[i : i + n + 1] for i in begins]


def top(words: Gram, found: Repeats) -> tuple[Gram, int]:
    """The n-gram whose occurrences take most characters, and how many they take."""
    gram = max(found.counts, key=lambda gram: (found.counts[gram] * len("".join(gram)), gram))
    return gram, _characters(words, (i for i in found.begins if words[i : i + found.n] == gram), found.n)


def duplicates(words: Gram, found: Repeats) -> int:
    """Characters in n-grams that stood before."""
    first = {words[i : i + found.n]: i for i in reversed(found.begins)}
    return _characters(words, (i for i in found.begins if first[words[i : i + found.n]] != i), found.n)


def _characters(words: Gram, starts: Iterable[int], n: int) -> int:
    return sum(len(words[i]) for i in {i + k for i in starts for k in range(n)})


def character_duplicates(text: str, n: int) -> float:
    """Share of characters in character n-grams that stood before."""
    grams = [text[i : i + n] for i in range(len(text) - n + 1)]
    if len(set(grams)) == len(grams):
        return 0.0
    seen: set[str] = set()
    covered, end = 0, 0
    for i, gram in enumerate(grams):
        if gram in seen:
            covered += i + n - max(i, end)
            end = i + n
        seen.add(gram)
    return covered / len(text)


def loop(text: str) -> Loop:
    """What the text's end repeats, the numbers and bullets before its lines left out; the last turn may be cut."""
    text = text.rstrip("\ufffd")  # half a character, where the tokens ran out
    plain = _loop(normal(text))
    before = text.rstrip().rpartition("\n")[0].rstrip().rpartition("\n")[2]
    if plain.chars or text.count(_unmarked(before) or text) < TURNS:
        return plain
    return _loop(normal(_ITEM.sub("", text)))


def _unmarked(line: str) -> str:
    mark = _ITEM.match(line)
    return (line[mark.end() :] if mark else line).strip()


def _loop(text: str) -> Loop:
    best, end = Loop("", 0), len(text)
    if not text:
        return best
    probe = text[-PROBE:]
    at = end - len(probe)
    for _ in range(16):  # the end may also stand within one turn: the nearest place is not always the turn before
        at = text.rfind(probe, 0, at + len(probe) - 1)
        period = end - len(probe) - at
        if at < 0 or period * TURNS > end:
            break
        chars = _same(text, period) + period
        unit = text[end - period :]
        least = LOOP if _LETTER.search(unit) else BARE_LOOP
        size = chars * len(unit.encode(errors="replace")) // period
        if size >= least and chars >= max(TURNS * period, best.chars + 1):
            best = Loop(unit, chars)
        if chars == end:
            break
    return best


def _same(text: str, period: int) -> int:
    """How many characters at the end equal the one a period before them."""
    low, high = 0, len(text) - period
    while low < high:
        middle = (low + high + 1) // 2
        if text.endswith(text[-period - middle : -period]):
            low = middle
        else:
            high = middle - 1
    return low


def total(words: Sequence[str]) -> int:
    """Characters of all words."""
    return sum(map(len, words))
