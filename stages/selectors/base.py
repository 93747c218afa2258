"""What a selector is: it takes few of many, and says of every candidate why or why not."""

from abc import abstractmethod
from collections.abc import Set
from typing import TYPE_CHECKING, NamedTuple

from pipeline.component import Component
from pipeline.records import Record
from stages.spaces import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Candidates(NamedTuple):
    """What selectors see, by ascending id. N is their number; there is at least one."""

    ids: list[str]
    vectors: "NDArray[np.float32]"
    """(N, D), unit length, finite; may be a file mapped into memory, so take it in blocks"""
    scores: "NDArray[np.float64]"
    """(N,), higher is better; all equal where nothing was scored"""
    labels: list[str]
    """what `Selector.label` said of each"""
    features: "NDArray[np.float32]"
    """(N, F), what `Selector.space` made of each; `vectors` where it names no space"""


class Choice(NamedTuple):
    """The verdict on one candidate."""

    rank: int
    """1 for the first that was chosen, 2 for the second; 0 for one that was not"""
    reason: str = ""
    """why not, as a slug"""
    detail: str = ""

    @property
    def chosen(self) -> bool:
        """Whether it was."""
        return self.rank > 0


class Selector(Component):
    """Base of the selectors. A pick depends on the set of candidates and the seed, not on their order."""

    def label(self, record: Record) -> str:
        """The group a record counts for, where the selector has groups."""
        return ""

    def require(self, labels: Set[str]) -> None:
        """Refuse settings that do not go with the groups there are, before anything is embedded."""

    def space(self) -> Space | None:
        """What it compares records by, where that is not what the stage embeds."""
        return None

    @abstractmethod
    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """One choice per candidate; exactly min(keep, N) are chosen, and their ranks are 1 to that number."""
