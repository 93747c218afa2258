"""Kernel herding: the chosen are spread as the whole is (Chen, Welling & Smola 2010, arXiv 1203.3472)."""

from typing import TYPE_CHECKING, Literal

from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.kernel import gaussian, width
from stages.selectors.ranks import DIGITS, SAMPLE, blocks, everyone, sample, verdicts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Herding(Selector):
    """Whoever lies where records are many and the chosen few: a small picture of the whole; scores do not count.

    The chosen's mean in the space of a Gaussian kernel follows that of all records (of a seeded sample of 20,000 where
    there are more). N * keep products of vectors.
    """

    kind: Literal["herding"] = "herding"

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """One after another, by the likeness to all less the likeness to those chosen before, both on average."""
        import numpy as np

        vectors, n = candidates.vectors, len(candidates.ids)
        if keep >= n:
            return everyone(candidates)
        wide = width(vectors, seed)
        crowd = _crowd(vectors, np.asarray(vectors[sample(n, SAMPLE, seed)]), wide)
        near = np.zeros(n)
        order: list[int] = []
        for turn in range(1, keep + 1):
            want = np.round(crowd - near / turn, DIGITS)
            want[order] = -np.inf
            order.append(int(want.argmax()))
            near += gaussian(vectors @ vectors[order[-1]], wide)
        near /= keep
        return verdicts(order, n, lambda i: ("not_needed", f"{crowd[i]:.4f} like all, {near[i]:.4f} like the chosen"))


def _crowd(vectors: "NDArray[np.float32]", universe: "NDArray[np.float32]", wide: float) -> "NDArray[np.float64]":
    """The mean likeness of each of `vectors` to the universe."""
    import numpy as np

    found = np.empty(len(vectors))
    for part in blocks(len(vectors), len(universe)):
        found[part] = gaussian(vectors[part] @ universe.T, wide).mean(axis=1, dtype=np.float64)
    return found
