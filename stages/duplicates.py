"""Near-duplicates by meaning: of records whose vectors are close, the best one stays.

Greedy, from the best score down: whoever is close to one that stays goes, and names it. So of a group at least one
stays, no two that stay are close, and the best always stays. (SemDeDup, arXiv 2303.09540, compares within k-means
clusters and misses pairs across their borders; DEITA's filter and others drop both of a pair.)
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1024  # candidates compared at once
KEPT = 16_384  # with so many of those that stay
HEAD = 64  # dimensions of the first look
SAMPLE = 20_000  # vectors the axes are taken from
ROUNDING = 1e-5


class Duplicate(NamedTuple):
    """A record that goes: which one it is like (its index), and how much."""

    keeper: int
    cosine: float


def duplicates(
    vectors: "NDArray[np.float32]",
    scores: "NDArray[np.float64]",
    min_cosine: float,
    among: "NDArray[np.int64] | None" = None,
) -> dict[int, Duplicate]:
    """Who goes, by index, and for whom. `vectors` (N, D) of unit length; ties of score go to the smaller index.

    `among` names the rows to be looked at; all, when left out.

    Exact, and never N x N in memory: N^2 / 2 products of 64 numbers, the principal axes, tell which few pairs can be
    close at all (the rest of two vectors adds at most the product of its lengths); those are compared whole.
    """
    import numpy as np

    dimensions = vectors.shape[1]
    rows = np.arange(len(vectors)) if among is None else among
    order = rows[np.lexsort((rows, -scores[rows]))]
    axes = _axes(vectors, order) if dimensions > 2 * HEAD else None
    staying = _Staying(vectors, axes, min_cosine)
    gone: dict[int, Duplicate] = {}
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        known = staying.nearest(block)
        fresh = np.flatnonzero(known.cosines < min_cosine)
        gone |= {
            int(block[i]): Duplicate(int(known.keepers[i]), float(known.cosines[i]))
            for i in np.flatnonzero(known.cosines >= min_cosine)
        }
        gone |= staying.add(block[fresh])
    return gone


class _Nearest(NamedTuple):
    keepers: "NDArray[np.int64]"
    cosines: "NDArray[np.float32]"


class _Staying:
    """Those that stay so far: their heads, and the length of the rest of each vector."""

    def __init__(self, vectors: "NDArray[np.float32]", axes: "NDArray[np.float32] | None", min_cosine: float) -> None:
        import numpy as np

        n, dimensions = vectors.shape
        self._vectors, self._axes, self._least = vectors, axes, min_cosine
        width = HEAD if axes is not None else dimensions
        self._heads = np.empty((n, width + 1), np.float32)  # pages that are never written take no memory
        self._index = np.empty(n, np.int64)
        self._count = 0
        self._whole = False

    def nearest(self, block: "NDArray[np.int64]") -> _Nearest:
        """For each of a block the closest of those that stay, where that may be a duplicate."""
        import numpy as np

        heads, keepers = self._head(block), np.full(len(block), -1, np.int64)
        best = np.full(len(block), -1, np.float32)
        for start in range(0, self._count, KEPT):
            index = self._index[start : min(start + KEPT, self._count)]
            rows, columns, found = self._closest(block, heads, start, index)
            closer = found > best[rows]
            keepers[rows[closer]], best[rows[closer]] = index[columns[closer]], found[closer]
        return _Nearest(keepers, best)

    def _closest(
        self, block: "NDArray[np.int64]", heads: "NDArray[np.float32]", start: int, index: "NDArray[np.int64]"
    ) -> "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]":
        """Rows of the block, for each the place in `index` of the closest, and how close; far ones may be left out."""
        import numpy as np

        if not self._whole:
            close = heads @ self._heads[start : start + len(index)].T >= self._least - ROUNDING
            self._whole = bool(np.count_nonzero(close) > close.size // 50)  # the heads tell little: no more of them
        if self._whole:
            cosines = self._vectors[block] @ self._vectors[index].T
            everyone, best = np.arange(len(block)), cosines.argmax(1)
            return everyone, best, cosines[everyone, best]
        rows, columns = np.nonzero(close)
        found = self._exact(block[rows], index[columns])
        first = np.lexsort((columns, -found, rows))
        first = first[np.unique(rows[first], return_index=True)[1]]
        return rows[first], columns[first], found[first]

    def add(self, block: "NDArray[np.int64]") -> dict[int, Duplicate]:
        """Let a block stay, but for those that are close to a better one of the block itself."""
        import numpy as np

        rows = np.asarray(self._vectors[block])
        cosines = np.triu(rows @ rows.T, 1)  # (i, j): i stands before j
        gone: dict[int, Duplicate] = {}
        stays = np.ones(len(block), bool)
        for j in np.flatnonzero((cosines >= self._least).any(0)):
            mine = np.where(stays[:j], cosines[:j, j], -1)
            if mine.max() >= self._least:
                stays[j] = False
                gone[int(block[j])] = Duplicate(int(block[mine.argmax()]), float(mine.max()))
        new = block[stays]
        self._heads[self._count : self._count + len(new)] = self._head(new)
        self._index[self._count : self._count + len(new)] = new
        self._count += len(new)
        return gone

    def _head(self, block: "NDArray[np.int64]") -> "NDArray[np.float32]":
        """Products of two heads bound the cosine from above: the last number is the length of what is left out."""
        import numpy as np

        rows = np.asarray(self._vectors[block])
        if self._axes is None:
            return np.column_stack([rows, np.zeros(len(rows), np.float32)])
        head = rows @ self._axes
        rest = np.sqrt(np.maximum(0, np.einsum("ij,ij->i", rows, rows) - np.einsum("ij,ij->i", head, head)))
        return np.column_stack([head, rest]).astype(np.float32)

    def _exact(self, left: "NDArray[np.int64]", right: "NDArray[np.int64]") -> "NDArray[np.float32]":
        import numpy as np

        found = np.empty(len(left), np.float32)
        for start in range(0, len(left), BLOCK):
            part = slice(start, start + BLOCK)
            found[part] = np.einsum("ij,ij->i", self._vectors[left[part]], self._vectors[right[part]])
        return found


def _axes(vectors: "NDArray[np.float32]", order: "NDArray[np.int64]") -> "NDArray[np.float32]":
    """The axes (D, HEAD) that hold most of the vectors' length."""
    import numpy as np

    step = max(1, len(order) // SAMPLE)
    some = np.asarray(vectors[np.sort(order[::step])])
    _, axes = np.linalg.eigh(some.T @ some)
    return np.ascontiguousarray(axes[:, -HEAD:])
