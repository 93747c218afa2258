"""Facility location: the chosen are those whom everyone finds someone alike among (Nemhauser, Wolsey & Fisher 1978)."""

import heapq
from typing import TYPE_CHECKING, Literal

from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.ranks import SAMPLE, blocks, everyone, sample, verdicts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIGITS = 4  # of a gain, a sum over thousands of records
HELD = 2**27  # similarities kept: 512 MiB
BATCH = 256  # candidates compared with everyone at once


class Facility(Selector):
    """Whoever adds most to the sum, over all records, of the cosine to the most similar chosen one; no scores.

    At least 0.63 of the best possible sum. Cosines under 0 count 0. The sum is over a seeded sample of 20,000 records
    where there are more; anyone can be chosen. About N * 20,000 products of vectors, then more the more are kept.
    """

    kind: Literal["facility"] = "facility"

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Lazy greedy (Minoux 1978): gains only shrink, so only those that were high are computed again."""
        import numpy as np

        n = len(candidates.ids)
        if keep >= n:
            return everyone(candidates)
        universe = np.asarray(candidates.vectors[sample(n, SAMPLE, seed)])
        similar = _Similar(candidates.vectors, universe)
        heap = [(-gain, i, -1) for i, gain in enumerate(similar.sums())]
        heapq.heapify(heap)
        order: list[int] = []
        cover = np.zeros(len(universe), np.float32)
        while len(order) < keep:
            _, i, when = heap[0]
            column = similar.column(i, heap)
            if when == len(order):
                order.append(i)
                np.maximum(cover, column, out=cover)
                heapq.heappop(heap)
            else:
                gain = float(np.maximum(column - cover, 0).sum(dtype=np.float64))
                heapq.heapreplace(heap, (-round(gain, DIGITS), i, len(order)))
        total, left = float(cover.sum(dtype=np.float64)), {i: -gain for gain, i, _ in heap}
        return verdicts(order, n, lambda i: ("represented", f"would add {left[i]:.4g} or less to {total:.6g}"))


class _Similar:
    """Similarities of candidates to the universe: a column each, computed many at once, the last used ones held."""

    def __init__(self, vectors: "NDArray[np.float32]", universe: "NDArray[np.float32]") -> None:
        self._vectors, self._universe = vectors, universe
        self._room = max(BATCH, HELD // len(universe))
        self._held: dict[int, NDArray[np.float32]] = {}

    def sums(self) -> list[float]:
        """The sum of every candidate's column: its gain as long as nobody is chosen."""
        found: list[float] = []
        for part in blocks(len(self._vectors), len(self._universe)):
            found += self._columns(part).sum(axis=1, dtype="f8").round(DIGITS).tolist()
        return found

    def column(self, i: int, heap: list[tuple[float, int, int]]) -> "NDArray[np.float32]":
        """One candidate's; where it is not held, together with those next in the heap."""
        if i not in self._held:
            ahead = [heapq.heappop(heap) for _ in range(min(BATCH, len(heap)))]
            new = [j for _, j, _ in ahead if j not in self._held]
            for entry in ahead:
                heapq.heappush(heap, entry)
            for old in list(self._held)[: max(0, len(self._held) + len(new) - self._room)]:
                del self._held[old]
            self._held |= {j: row.copy() for j, row in zip(new, self._columns(new), strict=True)}
        self._held[i] = self._held.pop(i)
        return self._held[i]

    def _columns(self, some: "slice | list[int]") -> "NDArray[np.float32]":
        import numpy as np

        found: NDArray[np.float32] = np.asarray(self._vectors[some]) @ self._universe.T
        np.maximum(found, 0, out=found)
        return found
