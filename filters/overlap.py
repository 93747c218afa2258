"""Which texts of a reference hold the same runs of words as a text, and how much of each is covered by them.

Runs are looked up by hash in sorted numpy arrays: about 20 bytes of memory a word of the references.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import regex

from filters.references import Item
from filters.shingles import Tokens, batches, ngrams, tokenize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHORTEST = 8  # words of the shortest item that is indexed, whole if it is shorter than n (GPT-3 has this bound)
CHARACTERS = 3  # characters of Hangul, Han or kana that count as a word
BITS = 22
_CALCULATED = regex.compile(r"<<[^<>\n]{1,80}>>")  # GSM8K's marks for a calculator
_THOUSANDS = regex.compile(r"(?<=\d),(?=\d{3})")


class Overlap(NamedTuple):
    """The item that a text covers most of. `share` 0 where it covers none."""

    share: float = 0.0
    where: str = ""
    span: str = ""


def cleaned(text: str) -> str:
    """The text without what is written in one way here and in another there."""
    if "<<" in text:
        text = _CALCULATED.sub("", text)
    return _THOUSANDS.sub("", text) if "," in text else text


class _Table(NamedTuple):
    """All runs of one length: sorted hashes, and the place of each run among the tokens of all items."""

    grams: "NDArray[np.uint64]"
    places: "NDArray[np.int64]"
    seen: "NDArray[np.bool_]"
    """[2 ** BITS] whether any run has these first bits"""


class References:
    """An index of evaluation items."""

    def __init__(self, sets: Iterable[Iterable[Item]], n: int, boilerplate: int) -> None:
        import numpy as np

        self._n, self._boilerplate = n, boilerplate
        self._where: list[str] = []
        self._hashes: list[NDArray[np.uint64]] = []
        self._lengths: list[int] = []  # of each item's runs
        bounds = [0]
        for one in sets:
            self._read(one)
            bounds.append(len(self._where))
        sizes = np.array([len(h) for h in self._hashes], np.int64)
        self._starts = np.cumsum(sizes) - sizes
        self._owner = np.repeat(np.arange(len(sizes)), sizes)
        self._set = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        self._covered = np.zeros(int(sizes.sum()), bool)
        self._tables = {length: self._table(length) for length in sorted(set(self._lengths))}
        self._sizes = np.bincount(self._owner[self._covered], minlength=len(sizes))
        del self._hashes

    def __len__(self) -> int:
        """How many items can be found."""
        return len(self._where)

    def _read(self, items: Iterable[Item]) -> None:
        """Note the items of one set that are long enough, equal ones once."""
        known: set[bytes] = set()
        wheres: list[str] = []

        def texts() -> Iterable[str]:
            for item in items:
                wheres.append(item.where)
                yield cleaned(item.text)

        for batch in batches(texts()):
            found = tokenize(batch)
            for row, where in enumerate(wheres):
                own = slice(found.rows[row], found.rows[row + 1])
                hashes, single = found.hashes[own], found.single[own]
                unit = CHARACTERS if 2 * single.sum() > len(single) else 1
                if len(hashes) >= SHORTEST * unit and (key := hashes.tobytes()) not in known:
                    known.add(key)
                    self._where.append(where)
                    self._hashes.append(hashes)
                    self._lengths.append(min(self._n * unit, len(hashes)))
            wheres.clear()

    def _table(self, length: int) -> _Table:
        """The runs of the items of this length, those left out that too many items of one set share."""
        import numpy as np

        members = [i for i, own in enumerate(self._lengths) if own == length]
        runs = [ngrams(self._hashes[i], length) for i in members]
        grams = np.concatenate(runs)
        places = np.concatenate([self._starts[i] + np.arange(len(run)) for i, run in zip(members, runs, strict=True)])
        order = np.argsort(grams, kind="stable")
        grams, places = grams[order], places[order]
        kept = ~self._common(grams, places)
        grams, places = grams[kept], places[kept]
        for step in range(length):
            self._covered[places + step] = True
        seen = np.zeros(1 << BITS, bool)
        seen[grams >> np.uint64(64 - BITS)] = True
        return _Table(grams, places, seen)

    def _common(self, grams: "NDArray[np.uint64]", places: "NDArray[np.int64]") -> "NDArray[np.bool_]":
        """Which runs stand in more than `boilerplate` items of one set."""
        import numpy as np

        owner = self._owner[places]
        order = np.lexsort((owner, self._set[owner], grams))
        gram, owner = grams[order], owner[order]
        group = np.cumsum(np.append(False, (gram[1:] != gram[:-1]) | (np.diff(self._set[owner]) != 0))[: len(gram)])
        new = np.append(True, (group[1:] != group[:-1]) | (owner[1:] != owner[:-1]))[: len(gram)]
        many = np.bincount(group[new], minlength=1) > self._boilerplate
        shared = np.unique(gram[many[group]]) if len(gram) else gram
        return np.isin(grams, shared)

    def overlaps(self, texts: Sequence[str]) -> list[Overlap]:
        """For each text the item that it covers most of."""
        found = tokenize([cleaned(text) for text in texts])
        return [self._overlap(found, slice(*found.rows[row : row + 2])) for row in range(len(texts))]

    def _overlap(self, tokens: Tokens, own: slice) -> Overlap:
        best = Overlap()
        for length, table in self._tables.items():
            grams = ngrams(tokens.hashes[own], length)
            maybe = table.seen[grams >> (64 - BITS)].nonzero()[0]
            if len(maybe) and (found := self._best(tokens, own.start, length, table, grams, maybe)).share > best.share:
                best = found
        return best

    def _best(
        self,
        tokens: Tokens,
        start: int,
        length: int,
        table: _Table,
        grams: "NDArray[np.uint64]",
        at: "NDArray[np.int64]",
    ) -> Overlap:
        import numpy as np

        low, high = (np.searchsorted(table.grams, grams[at], side) for side in ("left", "right"))
        counts = high - low
        if not counts.any():
            return Overlap()
        which = np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        at, places = np.repeat(at, counts), table.places[which]
        covered = np.unique(places[:, None] + np.arange(length))
        shares = np.bincount(self._owner[covered]) / np.maximum(1, self._sizes[: self._owner[covered].max() + 1])
        item = int(shares.argmax())
        mine = np.unique(at[self._owner[places] == item])
        runs = np.split(mine, np.flatnonzero(np.diff(mine) != 1) + 1)
        longest = max(runs, key=len)
        begin, end = tokens.starts[start + longest[0]], tokens.ends[start + longest[-1] + length - 1]
        return Overlap(float(shares[item]), self._where[item], tokens.text[begin:end])
