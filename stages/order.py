"""The order in which chosen records are written, which is the order in which a student may be taught."""

from collections.abc import Sequence
from math import isnan
from typing import Literal

from pipeline.records import digest

Order = Literal["shuffled", "rank", "topic", "ascending", "descending"]


def ordered(
    order: Order,
    ids: list[str],
    ranks: Sequence[int],
    topics: Sequence[int],
    values: Sequence[float],
    seed: int,
) -> list[int]:
    """Places of the chosen, first to last. `values` for ascending and descending; NaN goes last. Ties by id."""
    n = range(len(ids))
    match order:
        case "shuffled":
            return sorted(n, key=lambda i: digest([seed, ids[i]]))
        case "rank":
            return sorted(n, key=lambda i: (ranks[i], ids[i]))
        case "topic":
            return sorted(n, key=lambda i: (topics[i], ranks[i], ids[i]))
    sign = 1 if order == "ascending" else -1
    return sorted(n, key=lambda i: (True, 0.0, ids[i]) if isnan(values[i]) else (False, sign * values[i], ids[i]))
