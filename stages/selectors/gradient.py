"""Gradient matching: the chosen teach a student, in one step, what the whole would.

Of its kin this is the plainest: GradMatch (arXiv 2103.00123) weighs the chosen, CRAIG (arXiv 1906.01827) solves it as
facility location, LESS (arXiv 2402.04333) matches a target set instead of the whole.
"""

from typing import TYPE_CHECKING, Literal

from stages.gradients import Gradients
from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.ranks import DIGITS, everyone, verdicts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Gradient(Gradients, Selector):
    """Whoever brings the mean loss gradient of the chosen nearest to that of all; the student is loaded for it.

    N * keep products of gradients.
    """

    kind: Literal["gradient"] = "gradient"

    def space(self) -> Gradients:
        """The student's gradients, by the same settings."""
        return Gradients.model_validate(self.model_dump(exclude={"kind"}))

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """One after another (greedily), from the sum of those before."""
        import numpy as np

        features, n = candidates.features, len(candidates.ids)
        if keep >= n:
            return everyone(candidates)
        mean = features.mean(axis=0, dtype=np.float64)
        squares = np.square(features).sum(axis=1, dtype=np.float64)
        order = _match(features, mean, squares, keep)
        along = features @ mean.astype(np.float32) / np.maximum(np.sqrt(squares * (mean @ mean)), 1e-30)
        return verdicts(order, n, lambda i: ("not_needed", f"cosine {along[i]:.3f} to the mean gradient"))


def _match(
    features: "NDArray[np.float32]", mean: "NDArray[np.float64]", squares: "NDArray[np.float64]", keep: int
) -> list[int]:
    """The chosen of `features` (N, F) in order; the mean of all is `mean`, `squares` their squared lengths."""
    import numpy as np

    unit = max(float(squares.mean()), 1e-30)
    total = np.zeros(len(mean))
    order: list[int] = []
    for turn in range(1, keep + 1):
        over = total - turn * mean  # |over + f|^2 is to be least, over f
        error = np.round((squares + 2 * (features @ over.astype(np.float32))) / unit, DIGITS)
        error[order] = np.inf
        order.append(int(error.argmin()))
        total += features[order[-1]]
    return order
