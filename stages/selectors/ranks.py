"""From the order in which candidates were chosen to a verdict on each of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.selectors.base import Candidates, Choice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIGITS = 6
"""Figures are compared to so many decimals: the last bits of a product differ with its place in a matrix, and equal
records would not tie."""
SAMPLE = 20_000  # records that stand for all where all are too many to compare with
BLOCK = 2**24  # numbers in a block of products: 64 MiB


def by_score(candidates: Candidates) -> list[int]:
    """The indices from the best score down; ties by id."""
    import numpy as np

    order: list[int] = np.argsort(-candidates.scores, kind="stable").tolist()
    return order


def everyone(candidates: Candidates) -> list[Choice]:
    """All of them, the best first: the verdicts where there is nothing to choose."""
    return verdicts(by_score(candidates), len(candidates.ids), lambda i: ("", ""))


def verdicts(
    order: Sequence[int],
    total: int,
    left_out: Callable[[int], tuple[str, str]],
    chosen: Callable[[int], str] = lambda i: "",
) -> list[Choice]:
    """One choice for each of `total` candidates.

    `order` holds the indices of the chosen, the first first; `left_out` gives reason and detail of any other, `chosen`
    the detail of a chosen one.
    """
    rank = {i: n for n, i in enumerate(order, 1)}
    return [Choice(rank[i], "", chosen(i)) if i in rank else Choice(0, *left_out(i)) for i in range(total)]


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of `rows` so short that a product with `columns` columns stays small."""
    step = max(64, BLOCK // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


class Leaders(NamedTuple):
    """Those with the largest values. A value of theirs that has shrunk may still be known to be the largest of all."""

    indices: "NDArray[np.int64]"
    """ascending"""
    edge: tuple[float, int]
    """nobody else has a larger value, nor the same at a smaller index"""

    def lead(self, value: float, index: int) -> bool:
        """Whether no other candidate can come before this value at this index."""
        return (-value, index) < (-self.edge[0], self.edge[1])


def leaders(values: "NDArray[Any]", size: int) -> Leaders:
    """Up to `size` indices of the largest `values`, ties by index."""
    import numpy as np

    if size >= len(values):
        return Leaders(np.arange(len(values)), (-np.inf, len(values)))
    edge = np.partition(values, -size)[-size]
    above, level = np.flatnonzero(values > edge), np.flatnonzero(values == edge)
    room = size - len(above)
    outside = int(level[room]) if room < len(level) else len(values)
    return Leaders(np.sort(np.concatenate([above, level[:room]])), (float(edge), outside))


def sample(total: int, size: int, seed: int | Sequence[int]) -> "NDArray[np.int64]":
    """Ascending indices of `size` out of `total`, drawn uniformly; of all where there are no more."""
    import numpy as np

    if total <= size:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, size, replace=False))
