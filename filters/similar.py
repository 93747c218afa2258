"""Groups of texts that share shingles: MinHash bands propose pairs, their real Jaccard similarity decides.

The signatures are rensa's. They are cut into bands of rows (LSH; Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, chapter 3) such that a pair at the threshold meets in some band with probability RECALL at least. Of every
text only its band keys stay in memory (4 bytes a band); its shingles lie in a temporary file for the verification.
"""

import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from filters.shingles import Unit, mix, shingles, tokenize
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PERMUTATIONS = 128
RECALL = 0.95
ROUNDS = 32  # leaders tried in one bucket; more only where a bucket holds that many unrelated texts
MOST = 2  # pairs compared in one band for each text: only templates common to many texts come to that
CROWD = 8  # texts in a bucket from which their neighbours in the next bands are compared
DEPTH = 4  # bands that order a bucket, and neighbours compared
AT_ONCE = 1 << 22  # shingles compared at once


class Shape(NamedTuple):
    """What a shingle is."""

    unit: Unit
    words: int
    characters: int


class Group(NamedTuple):
    """What was found about N texts."""

    roots: "NDArray[np.int64]"
    """[N] the first text of the group a text belongs to"""
    apart: "NDArray[np.float64]"
    """[N] highest similarity under the threshold that was measured"""
    link: "NDArray[np.int64]"
    """[N] the most similar text over the threshold, itself where there is none"""
    linked: "NDArray[np.float64]"
    """[N] and that similarity, 0 where there is none"""
    live: "NDArray[np.bool_]"
    """[N] as given"""


def band_rows(threshold: float) -> int:
    """Rows of a band: as many as RECALL at the threshold allows."""

    def meet(rows: int) -> float:
        return float(1 - (1 - threshold**rows) ** (PERMUTATIONS // rows))

    return max((rows for rows in range(1, PERMUTATIONS + 1) if meet(rows) >= RECALL), default=1)


class Index:
    """Rows of one or several texts come in, groups come out. A row whose last text holds no word is like no other.

    Rows are as similar as all their shingles are, and no more than those of their last texts.
    """

    def __init__(self, threshold: float, shape: Shape, parts: int = 1) -> None:
        self._threshold, self._shape, self._parts = threshold, shape, parts
        self._rows = band_rows(threshold)
        self._bands: list[NDArray[np.uint32]] = []
        self._counts: list[NDArray[np.int64]] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`

    def close(self) -> None:
        """Free the disk."""
        self._file.close()

    def add(self, texts: Sequence[str]) -> None:
        """The texts of the next rows, one row after the other, about a hundred at a time."""
        import numpy as np

        tokens = tokenize(texts, self._shape.unit)
        grams, rows = shingles(tokens, self._shape.words, self._shape.characters)
        self._bands.append(self._keys(grams, rows[:: self._parts]))
        counts = np.where(np.diff(tokens.rows) > 0, np.diff(rows), 0)
        (grams[np.repeat(counts > 0, np.diff(rows))] >> np.uint64(32)).astype(np.uint32).tofile(self._file)
        self._counts.append(counts.reshape(-1, self._parts))

    def _keys(self, grams: "NDArray[np.uint64]", rows: "NDArray[np.int64]") -> "NDArray[np.uint32]":
        """Shape (bands, texts)."""
        import numpy as np

        try:
            from rensa import RMinHash
        except ImportError as error:
            raise PipelineError(f"rensa is not installed ({error})", hint="pip install rensa") from error
        matrix: Any = RMinHash.digest_matrix_from_flat_token_hashes(grams, rows.astype(np.uint64), PERMUTATIONS, 1)
        signatures = np.asarray(matrix.to_rows(), np.uint64)
        bands = PERMUTATIONS // self._rows
        keys = np.zeros((len(signatures), bands), np.uint64)
        for row in range(self._rows):
            keys = mix(keys + signatures[:, row : self._rows * bands : self._rows] + np.uint64(row + 1))
        return np.ascontiguousarray((keys >> np.uint64(32)).astype(np.uint32).T)

    def groups(self, live: "NDArray[np.bool_]") -> Group:
        """Texts linked by pairs over the threshold, however long the chain (union-find).

        Texts that are not live link no others: they are compared with the live ones, and stay a group of their own.
        """
        import numpy as np

        counts = np.concatenate([np.zeros((0, self._parts), np.int64), *self._counts])
        self._sizes, self._last, self._live = counts.sum(1), counts[:, -1], live
        self._offsets = np.cumsum(self._sizes) - self._sizes
        total = len(counts)
        self._file.flush()
        self._shingles = np.memmap(self._file, np.uint32, "r") if counts.any() else np.zeros(0, np.uint32)
        found = Group(np.arange(total), np.zeros(total), np.arange(total), np.zeros(total), live)
        bands = np.concatenate([np.zeros((PERMUTATIONS // self._rows, 0), np.uint32), *self._bands], axis=1)
        asked = np.zeros(0, np.uint64)
        for band in range(len(bands)):
            fresh = self._join(np.roll(bands, -band, axis=0)[:DEPTH], found, asked)
            asked = np.union1d(asked, fresh)
        return found

    def _join(self, keys: "NDArray[np.uint32]", found: Group, asked: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
        """Compare the texts of each bucket of a band with its first, then the rest with the next, and so on.

        In a crowded bucket, which a template common to many texts makes, texts that meet in the next bands, too, are
        compared first. Returns the pairs compared.
        """
        import numpy as np

        order = np.argsort(keys[0])
        order = order[self._last[order] > 0]
        twin = keys[0][order[1:]] == keys[0][order[:-1]]
        order = order[np.append(twin, False)[: len(order)] | np.append(False, twin)[: len(order)]]
        order = order[
            np.lexsort((order, *keys[:0:-1, order], ~self._live[order], keys[0][order]))
        ]  # the live ones lead
        done = [np.zeros(0, np.uint64)]
        budget = MOST * len(order)
        for turn in range(ROUNDS):
            bucket = keys[0][order]
            first = np.append(True, bucket[1:] != bucket[:-1])[: len(order)]
            lengths = np.diff(np.append(np.flatnonzero(first), len(order)))
            several = np.repeat(lengths > 1, lengths)
            order, first, lengths = order[several], first[several], lengths[lengths > 1]
            if not len(order) or budget <= 0:
                break
            leader = np.repeat(order[first], lengths)
            pairs = [_pairs(leader, order)]
            if turn == 0:
                crowd = np.repeat(lengths > CROWD, lengths)
                pairs += [_pairs(order[:-step], order[step:])[crowd[:-step] & crowd[step:]] for step in range(1, DEPTH)]
            fresh = np.unique(np.concatenate(pairs))
            fresh = fresh[~_among(fresh, asked)]
            left, right = _apart(fresh)
            apart = found.roots[left] != found.roots[right]
            self._note(left[apart], right[apart], found)
            done.append(fresh[apart])
            budget -= int(apart.sum())
            order = order[found.roots[leader] != found.roots[order]]
        return np.concatenate(done)

    def _note(self, left: "NDArray[np.int64]", right: "NDArray[np.int64]", found: Group) -> None:
        import numpy as np

        alike = self.similarity(left, right)
        near = alike > self._threshold
        for one, other in ((left, right), (right, left)):
            apart = ~near & self._live[other]
            np.maximum.at(found.apart, one[apart], alike[apart])
            better = near & self._live[other] & (alike > found.linked[one])
            by_rank = np.flatnonzero(better)[np.argsort(alike[better], kind="stable")]
            found.link[one[by_rank]], found.linked[one[by_rank]] = other[by_rank], alike[by_rank]
        roots = found.roots
        joined = near & self._live[left] & self._live[right]
        for a, b in zip(left[joined].tolist(), right[joined].tolist(), strict=True):
            low, high = sorted((_root(roots, a), _root(roots, b)))
            roots[high] = low
        while (roots != roots[roots]).any():
            roots[:] = roots[roots]

    def similarity(self, left: "NDArray[np.int64]", right: "NDArray[np.int64]") -> "NDArray[np.float64]":
        """Of each pair: the Jaccard measure of all shingles, or of the last texts' where that is less."""
        import numpy as np

        cost = np.cumsum(self._sizes[left] + self._sizes[right])
        parts = [np.zeros(0)]
        for begin, end in _blocks(cost):
            a, b = left[begin:end], right[begin:end]
            alike = self._jaccard(a, b, self._sizes)
            if self._parts > 1:
                alike = np.minimum(alike, self._jaccard(a, b, self._last))
            parts.append(alike)
        return np.concatenate(parts)

    def _jaccard(
        self, left: "NDArray[np.int64]", right: "NDArray[np.int64]", counted: "NDArray[np.int64]"
    ) -> "NDArray[np.float64]":
        """Over the last so many shingles of each row, which are some."""
        import numpy as np

        both = np.concatenate([left, right])
        sizes = counted[both]
        first = np.cumsum(sizes) - sizes
        begin = self._offsets[both] + self._sizes[both] - sizes
        at = np.arange(sizes.sum()) + np.repeat(begin - first, sizes)
        pair = np.repeat(np.tile(np.arange(len(left), dtype=np.uint64), 2), sizes)
        side = np.repeat(np.arange(len(both)) >= len(left), sizes)
        keys = np.sort((pair << np.uint64(33)) | (self._shingles[at].astype(np.uint64) << np.uint64(1)) | side)
        keys = keys[np.append(True, keys[1:] != keys[:-1])] >> np.uint64(1)  # a shingle once for each side
        twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
        common = np.bincount(twice.astype(np.int64), minlength=len(left))
        each = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(left))
        return common / (each - common)


def _pairs(one: "NDArray[np.int64]", other: "NDArray[np.int64]") -> "NDArray[np.uint64]":
    """Each pair as one number, the smaller first."""
    import numpy as np

    low, high = np.minimum(one, other), np.maximum(one, other)
    return (low.astype(np.uint64) << np.uint64(32)) | high.astype(np.uint64)


def _apart(pairs: "NDArray[np.uint64]") -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
    import numpy as np

    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _among(values: "NDArray[np.uint64]", known: "NDArray[np.uint64]") -> "NDArray[np.bool_]":
    """Which values stand in a sorted array."""
    import numpy as np

    place = np.searchsorted(known, values)
    return np.append(known, np.uint64(0))[place] == values if len(known) else np.zeros(len(values), bool)


def _blocks(cost: "NDArray[np.int64]") -> Iterator[tuple[int, int]]:
    """Ranges of pairs of about AT_ONCE shingles each."""
    import numpy as np

    begin = 0
    while begin < len(cost):
        spent = cost[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(cost, spent + AT_ONCE, side="right")))
        yield begin, end
        begin = end


def _root(roots: "NDArray[np.int64]", one: int) -> int:
    while roots[one] != one:
        one = int(roots[one])
    return one
