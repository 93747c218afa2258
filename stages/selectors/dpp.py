"""A determinantal point process: the chosen span a large volume (Chen, Zhang & Zhou 2018, arXiv 1709.05135)."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.errors import PipelineError
from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.kernel import gaussian, width
from stages.selectors.ranks import DIGITS, everyone, verdicts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST = 2**30  # numbers in memory: 4 GiB
FLOOR = 1e-6  # of what is left of a record: less is noise


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
        n = len(candidates.ids)
        if keep >= n:
            return everyone(candidates)
        if n * keep > MOST:
            raise PipelineError(
                f"`select: dpp` would take {4 * n * keep / 2**30:,.0f} GiB of memory to keep {keep:,} of {n:,} records",
                hint=f"keep {MOST // n:,} or fewer, or select by facility or score_first",
            )
        scores = _scaled(candidates.scores)
        order, left = _greedy(candidates.vectors, (1 - self.lambda_, self.lambda_ * scores), keep, seed)

        def outweighed(i: int) -> tuple[str, str]:
            return "outweighed", f"{left[i]:.3f} of it is new beside the chosen, score {scores[i]:.2f} of 1"

        return verdicts(order, n, outweighed)


def _scaled(scores: "NDArray[np.float64]") -> "NDArray[np.float64]":
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else scores * 0


def _greedy(
    vectors: "NDArray[np.float32]", weights: "tuple[float, NDArray[np.float64]]", keep: int, seed: int
) -> "tuple[list[int], NDArray[np.float64]]":
    """The chosen in order; and for each record the part of it (0..1) that the chosen do not span.

    Row t of `rows` is the t-th row of the kernel's Cholesky factor, with a column for each of the N records.
    """
    import numpy as np

    difference, bonus = weights
    wide = width(vectors, seed)
    rows = np.empty((keep, len(vectors)), np.float32)
    left = np.ones(len(vectors))
    order: list[int] = []
    for turn in range(keep):
        worth = np.round(difference * np.log(np.maximum(left, FLOOR)) + bonus, DIGITS)
        worth[order] = -np.inf
        i = int(worth.argmax())
        row = gaussian(vectors @ vectors[i], wide)
        row -= rows[:turn, i] @ rows[:turn]
        row /= np.sqrt(max(left[i], FLOOR))
        rows[turn] = row
        left -= row.astype(np.float64) ** 2
        order.append(i)
    return order, np.maximum(left, 0)
