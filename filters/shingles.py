"""Tokens and shingles of many texts at once, as 64-bit hashes in numpy arrays: the same in every process.

A token is a run of letters, marks and digits, or one character of Hangul, Han or kana, since spaces say little
about words there. Case and compatibility forms (NFKC) make no difference; what lies between tokens is left out.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import regex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Unit = Literal["auto", "words", "characters"]
LONGEST = 1_000_000  # characters of a text that are read
BATCH = 64
LAST = 0x33480  # code points from here on are no letters
BETWEEN, LETTER, SINGLE = 0, 1, 2
_LETTERS = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_SINGLES = regex.compile(r"[[\p{Hangul}\p{Han}\p{Hiragana}\p{Katakana}]&&[\p{L}\p{M}\p{N}]]+", regex.V1)
_BASE, _MULTIPLIER = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9  # odd, so that multiplying loses nothing


class Tokens(NamedTuple):
    """Tokens of N texts, T in all."""

    hashes: "NDArray[np.uint64]"
    """[T]"""
    single: "NDArray[np.bool_]"
    """[T] whether the token is one character of a script without useful spaces"""
    starts: "NDArray[np.int64]"
    """[T] where it begins in `text`"""
    ends: "NDArray[np.int64]"
    """[T] and where it ends"""
    rows: "NDArray[np.int64]"
    """[N + 1] text i owns tokens rows[i] to rows[i + 1]"""
    text: str
    """the texts, NFKC, one after the other"""


def batches(texts: Iterable[str], parts: int = 1) -> Iterator[list[str]]:
    """The texts in batches that suit `tokenize` and a processor's cache, `parts` in a row kept together."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) % parts == 0 and (len(batch) >= BATCH * parts or size >= LONGEST // 8):
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def tokenize(texts: Sequence[str], unit: Unit = "auto") -> Tokens:
    """Tokens of the texts, of a text over a million characters those of the first million.

    `words` keeps runs of Hangul, Han and kana whole, `characters` splits every word.
    """
    import numpy as np

    plain = [_plain(text[:LONGEST]) for text in texts]
    text = "\n".join([*plain, ""])
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    tables = _tables()
    kind = tables.kinds.take(codes, mode="clip")
    if unit != "auto":
        kind = (kind > BETWEEN) * np.uint8(LETTER if unit == "words" else SINGLE)
    edge = np.zeros(len(kind) + 2, np.uint8)
    edge[1:-1] = kind
    single = kind == SINGLE
    starts = np.flatnonzero(single | ((kind == LETTER) & (edge[:-2] != LETTER)))
    ends = np.flatnonzero(single | ((kind == LETTER) & (edge[2:] != LETTER))) + 1
    rows = np.searchsorted(starts, np.cumsum([0, *(len(t) + 1 for t in plain)]))
    hashes = _hash_words(tables.values.take(codes, mode="clip"), starts, ends)
    return Tokens(hashes, single.take(starts), starts, ends, rows, text)


def _plain(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def shingles(tokens: Tokens, words: int, characters: int) -> tuple["NDArray[np.uint64]", "NDArray[np.int64]"]:
    """Hashes of the shingles of each text, and the offset of each text's own.

    A text is read as a ring with one mark between its end and its beginning, so that every token stands in equally
    many shingles and a short text has some too. A shingle takes `words` tokens, `characters` from a single one on.
    """
    import numpy as np

    mark = np.full(len(tokens.rows) - 1, _BASE, np.uint64)
    ring = np.insert(tokens.hashes, tokens.rows[:-1], mark)
    single = np.insert(tokens.single, tokens.rows[:-1], False)
    rows = tokens.rows + np.arange(len(tokens.rows))
    follows = np.arange(1, len(ring) + 1)
    follows[rows[1:] - 1] = rows[:-1]
    single[rows[:-1]] = single[follows[rows[:-1]]]
    if not single.any():
        characters = words  # spares the longer runs that none would take
    short, long = sorted((words, characters))
    grams, at = ring.copy(), np.arange(len(ring))
    chosen = grams.copy()
    for length in range(2, long + 1):
        at = follows.take(at)
        grams *= np.uint64(_MULTIPLIER)
        grams += ring.take(at)
        if length == short:
            chosen = grams.copy()
    takes_long = single if characters > words else ~single
    return mix(np.where(takes_long, grams, chosen) if short != long else grams), rows


def ngrams(hashes: "NDArray[np.uint64]", n: int) -> "NDArray[np.uint64]":
    """Hashes of the runs of n tokens, in order; none where there are fewer than n."""
    import numpy as np

    count = max(0, len(hashes) - n + 1)
    grams = np.zeros(count, np.uint64)
    for k in range(n):
        grams *= np.uint64(_MULTIPLIER)
        grams += hashes[k : k + count]
    return mix(grams)


def mix(values: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """Each bit of a value spread over all bits."""
    import numpy as np

    values = (values ^ (values >> np.uint64(31))) * np.uint64(_MULTIPLIER)
    return (values ^ (values >> np.uint64(29))) * np.uint64(_BASE)


def _hash_words(
    values: "NDArray[np.uint64]", starts: "NDArray[np.int64]", ends: "NDArray[np.int64]"
) -> "NDArray[np.uint64]":
    """A polynomial of the characters of each word, as a difference of prefix sums (modulo 2**64)."""
    import numpy as np

    powers, inverse = _powers(max(1 << 18, 1 << len(values).bit_length()))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return mix((sums.take(ends) - sums.take(starts)) * inverse.take(starts))


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple["NDArray[np.uint64]", "NDArray[np.uint64]"]:
    """Powers of the base and of its inverse, from 0 on."""
    import numpy as np

    inverse = pow(_BASE, -1, 1 << 64)
    rising = np.cumprod(np.full(count, _BASE, np.uint64), dtype=np.uint64) * np.uint64(inverse)
    falling = np.cumprod(np.full(count, inverse, np.uint64), dtype=np.uint64) * np.uint64(_BASE)
    return rising, falling


class _Tables(NamedTuple):
    """What is known of every code point."""

    kinds: "NDArray[np.uint8]"
    values: "NDArray[np.uint64]"
    """a random number, the same for both cases of a letter"""


@cache
def _tables() -> _Tables:
    import numpy as np

    whole = "".join(map(chr, range(LAST + 1)))
    kinds = np.zeros(len(whole), np.uint8)
    for pattern, kind in ((_LETTERS, LETTER), (_SINGLES, SINGLE)):
        for run in pattern.finditer(whole):
            kinds[run.start() : run.end()] = kind
    folds = np.arange(len(whole), dtype=np.uint64)
    for code in map(ord, filter(str.isupper, whole)):
        lower = chr(code).lower()
        folds[code] = ord(lower) if len(lower) == 1 else code
    return _Tables(kinds, mix(folds + np.uint64(1)))
