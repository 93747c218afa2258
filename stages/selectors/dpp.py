"""A determinantal point process: the chosen span a large volume (Chen, Zhang & Zhou 2018, arXiv 1709.05135)."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.errors import PipelineError
from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.kernel import gaussian, width
from stages.selectors.ranks import DIGITS, Leaders, everyone, leaders, verdicts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST = 2**30  # numbers in memory: 4 GiB
POOL = 1024  # of the worthiest, among whom the next are found
ROUND = 128  # of them at most before everyone is told
FLOOR = 1e-5  # of what is left of a record: less is noise


class Dpp(Selector):
    """Whoever adds most to the volume that the chosen span, weighed against its score by `lambda`.

    Greedy maximum of (1 - lambda) log det + lambda sum of scores, which are scaled to 0..1; the kernel is Gaussian. Odd
    ones out add most. Takes 4 * N * keep bytes and N * keep^2 / 2 products.
    """

    kind: Literal["dpp"] = "dpp"
    lambda_: Annotated[
        float, Field(alias="lambda", ge=0, le=1, description="weight of the score; 0: difference alone, 1: score alone")
    ] = 0.5

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Raises PipelineError where it would take more than 4 GiB."""
        import numpy as np

        n = len(candidates.ids)
        if keep >= n:
            return everyone(candidates)
        if n * keep > MOST:
            raise PipelineError(
                f"`select: dpp` would take {4 * n * keep / 2**30:,.0f} GiB of memory to keep {keep:,} of {n:,} records",
                hint=f"keep {MOST // n:,} or fewer, or select by facility or score_first",
            )
        scores = _scaled(candidates.scores)
        volume = _Volume(candidates.vectors, width(candidates.vectors, seed), keep)
        volume.fill(1 - self.lambda_, self.lambda_ * scores)
        left = np.maximum(volume.left, 0)

        def outweighed(i: int) -> tuple[str, str]:
            return "outweighed", f"{left[i]:.3f} of it is new beside the chosen, score {scores[i]:.2f} of 1"

        return verdicts(volume.order, n, outweighed)


def _scaled(scores: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.zeros(len(scores))


class _Volume:
    """What the chosen span: the rows of the kernel's Cholesky factor, with a column for each of the N records."""

    def __init__(self, vectors: "NDArray[np.float32]", wide: float, keep: int) -> None:
        import numpy as np

        self._vectors, self._wide, self._keep = vectors, wide, keep
        self._rows = np.empty((keep, len(vectors)), np.float32)
        self._count = 0
        self.order: list[int] = []
        self.left = np.ones(len(vectors))
        """the part of each record (0..1) that the chosen do not span; worth only shrinks with it"""

    def fill(self, difference: float, bonus: "NDArray[np.float64]") -> None:
        """Choose as many as there is room for, by the weight of difference and what their scores are worth."""
        import numpy as np

        while len(self.order) < self._keep:
            pool = leaders(_worth(self.left, difference, bonus), POOL)
            new = self._among(pool, difference, bonus[pool.indices])
            self.order += new
            bonus[new] = -np.inf  # nobody is chosen twice

    def _among(self, pool: Leaders, difference: float, bonus: "NDArray[np.float64]") -> list[int]:
        """The next ones, as many as can be known from a pool of the worthiest."""
        import numpy as np

        mine, left = np.asarray(self._vectors[pool.indices]), self.left[pool.indices]
        before = self._rows[: self._count, pool.indices]
        rows = np.empty((min(ROUND, self._keep - len(self.order)), len(mine)), np.float32)
        taken: list[int] = []
        spanning: list[int] = []
        for _ in rows:
            worth = _worth(left, difference, bonus)
            j = int(worth.argmax())
            if np.isneginf(worth[j]) or not pool.lead(float(worth[j]), int(pool.indices[j])):
                break
            taken.append(j)
            bonus[j] = -np.inf
            if left[j] > FLOOR:
                done = len(spanning)
                row = gaussian(mine @ mine[j], self._wide)
                row -= before[:, j] @ before
                row -= rows[:done, j] @ rows[:done]
                rows[done] = row / np.sqrt(left[j])
                left -= rows[done].astype(np.float64) ** 2
                spanning.append(j)
        self._add(pool.indices[spanning], rows[: len(spanning), spanning].T)
        found: list[int] = pool.indices[taken].tolist()
        return found

    def _add(self, new: "NDArray[np.int64]", factor: "NDArray[np.float32]") -> None:
        """The rows of the new ones for everyone, all in one product; `factor` is their own part, lower triangular."""
        from scipy.linalg import solve_triangular  # type: ignore[import-untyped]

        block = gaussian(self._vectors[new] @ self._vectors.T, self._wide)
        block -= self._rows[: self._count, new].T @ self._rows[: self._count]
        rows = self._rows[self._count : self._count + len(new)]
        rows[:] = solve_triangular(factor, block, lower=True, overwrite_b=True, check_finite=False)
        self.left -= (rows**2).sum(axis=0, dtype="f8")
        self._count += len(new)


def _worth(left: "NDArray[np.float64]", difference: float, bonus: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    worth: NDArray[np.float64] = np.round(difference * np.log(np.maximum(left, FLOOR)) + bonus, DIGITS)
    return worth
