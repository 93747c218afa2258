"""Farthest first: nobody is left far from all chosen (Gonzalez 1985; core-sets, Sener & Savarese, arXiv 1708.00489)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.ranks import DIGITS, blocks, everyone, leaders, verdicts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POOL = 4096  # of the farthest, among whom the next are found
NEVER = 3.0  # over every cosine: who has it is never the farthest


class KCenter(Selector):
    """Whoever is farthest from all chosen before, from the record nearest to the mean on; scores do not count.

    At most twice as far as with the best choice is anyone from the nearest chosen. Outliers are chosen early.
    """

    kind: Literal["k_center"] = "k_center"

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """N * keep products of vectors at most, the same as comparing each record with each chosen one."""
        n, ids = len(candidates.ids), candidates.ids
        if keep >= n:
            return everyone(candidates)
        reach = _Reach(candidates.vectors)
        order, lonely = [], []
        for i, cosine in reach.farthest_first(keep):
            order.append(i)
            lonely.append(f"cosine {cosine:.3f} to the nearest chosen before" if order[1:] else "nearest to the mean")
        notes = dict(zip(order, lonely, strict=True))

        def covered(i: int) -> tuple[str, str]:
            return "covered", f"cosine {reach.cosine[i]:.3f} to {ids[reach.owner[i]]}"

        return verdicts(order, n, covered, notes.__getitem__)


class _Reach:
    """How near everyone is to the nearest chosen, and who that is."""

    def __init__(self, vectors: "NDArray[np.float32]") -> None:
        import numpy as np

        self._vectors = vectors
        self.cosine = np.full(len(vectors), -2, np.float32)
        self.owner = np.zeros(len(vectors), np.int64)

    def farthest_first(self, keep: int) -> Iterator[tuple[int, float]]:
        """The chosen, and how near each was to those before.

        Distances only shrink as more are chosen. So the farthest of a pool of the farthest is the farthest of all, as
        long as it is farther than whoever was left out of the pool was; only then all others are looked at again, for
        all that were chosen meanwhile in one matrix product.
        """
        new = [self._central()]
        yield new[0], 0.0
        count = 1
        while True:
            self._add(new)
            if count == keep:
                return
            new = []
            for i, cosine in self._of_the_farthest(keep - count):
                new.append(i)
                yield i, cosine
            count += len(new)

    def _central(self) -> int:
        import numpy as np

        mean = self._vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        return int(np.round(self._vectors @ mean, DIGITS).argmax())

    def _of_the_farthest(self, most: int) -> Iterator[tuple[int, float]]:
        """The next ones, as many as can be known from a pool, and the cosine of each to those before."""
        import numpy as np

        pool = leaders(-self.cosine, POOL)
        rows, cosine = np.asarray(self._vectors[pool.indices]), self.cosine[pool.indices]
        for _ in range(most):
            j = int(cosine.argmin())
            i = int(pool.indices[j])
            if cosine[j] == NEVER or not pool.lead(-float(cosine[j]), i):
                return
            yield i, float(cosine[j])
            np.maximum(cosine, np.round(rows @ rows[j], DIGITS), out=cosine)
            cosine[j] = NEVER

    def _add(self, new: list[int]) -> None:
        import numpy as np

        theirs = np.asarray(self._vectors[new])
        for part in blocks(len(self.cosine), len(new)):
            products = self._vectors[part] @ theirs.T
            best = products.argmax(axis=1)
            found = np.round(products[np.arange(len(best)), best], DIGITS)
            closer = found > self.cosine[part]
            self.cosine[part][closer] = found[closer]
            self.owner[part][closer] = np.asarray(new)[best[closer]]
        self.cosine[new] = NEVER
