"""What a selector is: it takes few of many, and says of every candidate why or why not."""

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from pipeline.component import Component

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Candidates(NamedTuple):
    """What selectors see: ids in ascending order, unit vectors (N, D), scores (N,), higher is better."""

    ids: list[str]
    vectors: "NDArray[np.float32]"
    scores: "NDArray[np.float64]"


class Choice(NamedTuple):
    """The verdict on one candidate: `value` is the selector's own measure (a cluster, a rank)."""

    chosen: bool
    value: float
    reason: str = ""
    detail: str = ""


class Selector(Component):
    """Base of the selectors. A pick depends on the set of candidates and the seed, not on their order."""

    @abstractmethod
    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """One choice per candidate; exactly min(keep, N) are chosen."""
