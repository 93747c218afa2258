"""How diverse a choice among many vectors is, beside random choices of the same size.

Distances are 1 - cosine: 0 for the same direction, 1 for nothing in common, 2 for opposites. Large sets are looked at
through samples of bounded size; everything else is exact. A figure that a set does not determine is None.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stages.selectors import ranks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

DRAWS = 20  # random choices a choice is compared with
LOOKED_AT = 20_000  # records that coverage and the Vendi score look at, at most
PAIRS = 20_000_000  # distances per figure and set, where that leaves
FEWEST = 1_000  # so many records
BLOCK = 16_000_000  # distances in memory at once
DECIMALS = 6  # of a figure: what float32 can say

Better = Literal["lower", "higher", ""]


class Pool(NamedTuple):
    """All records, by row."""

    vectors: "NDArray[np.float32]"
    """(N, D), unit length; may be a file mapped into memory"""
    scores: "NDArray[np.float64]"
    """(N,)"""
    chars: "NDArray[np.int64]"
    """(N,) characters of each text"""
    topics: "NDArray[np.int64]"
    """(N,) the topic each belongs to"""


class Figures(NamedTuple):
    """What is measured of one choice."""

    coverage_mean: float
    """distance from a record to the nearest chosen one, on average over all records"""
    coverage_worst: float
    """and for the record that is farthest from any chosen one"""
    neighbour_mean: float | None
    """distance from a chosen record to the nearest other chosen one, on average; None for one record"""
    vendi: float
    """the Vendi score, an effective number of different records: 1 where all are the same"""
    topic_entropy: float | None
    """0 where all are of one topic, 1 where topics have equal shares; None where all records are of one topic"""
    score_mean: float
    chars_mean: float


class Range(NamedTuple):
    """A figure over random choices: the mean, and the 2.5 and 97.5 percentiles."""

    mean: float
    low: float
    high: float


class Figure(NamedTuple):
    """One figure of a choice and of random ones; `before` is its value over all records, where that says something."""

    chosen: float | None
    random: Range | None
    before: float | None
    better: Better


class Comparison(NamedTuple):
    """A choice beside random choices of the same size, figure by figure."""

    figures: dict[str, Figure]
    chosen: int
    draws: int
    looked_at: int
    """records (or texts) measured; fewer than all where that would take long"""

    def plain(self) -> dict[str, Any]:
        """The comparison as JSON."""
        figures = {
            name: figure._asdict() | {"random": figure.random and figure.random._asdict()}
            for name, figure in self.figures.items()
        }
        return self._asdict() | {"figures": figures}


BETTER: dict[str, Better] = {
    "coverage_mean": "lower",
    "coverage_worst": "lower",
    "neighbour_mean": "higher",
    "vendi": "higher",
    "topic_entropy": "higher",
    "score_mean": "higher",
    "chars_mean": "",
}


def compare(pool: Pool, chosen: "Rows", seed: int) -> Comparison:
    """The figures of a choice (rows of the pool, at least one) and of `DRAWS` random choices under the seed."""
    sets = [chosen, *random_sets(len(pool.scores), len(chosen), seed)]
    ours, *drawn = [figures._asdict() for figures in measure(pool, sets, seed)]
    before = {"score_mean": _mean(pool.scores), "chars_mean": _mean(pool.chars)}
    found = {
        name: Figure(value, spread([d[name] for d in drawn]), before.get(name), BETTER[name])
        for name, value in ours.items()
    }
    return Comparison(found, len(chosen), len(drawn), _looked_at(len(pool.scores), len(chosen)))


def measure(pool: Pool, sets: Sequence["Rows"], seed: int) -> list[Figures]:
    """The figures of choices of equal size; those over samples take the same one for every choice."""
    import numpy as np

    n = len(pool.scores)
    records = sample(n, _looked_at(n, len(sets[0])), seed)
    coverage = nearest(pool.vectors, records, sets)
    topics = np.unique(pool.topics, return_inverse=True)[1]
    return [
        Figures(
            coverage_mean=_mean(distances),
            coverage_worst=round(float(distances.max()), DECIMALS),
            neighbour_mean=_neighbour_mean(pool.vectors, rows, seed),
            vendi=vendi(pool.vectors, rows[sample(len(rows), LOOKED_AT, seed)]),
            topic_entropy=_entropy(topics[rows], int(topics.max()) + 1),
            score_mean=_mean(pool.scores[rows]),
            chars_mean=_mean(pool.chars[rows]),
        )
        for rows, distances in zip(sets, coverage, strict=True)
    ]


def random_sets(n: int, size: int, seed: int) -> list["Rows"]:
    """Rows of `DRAWS` random choices of `size` among n, each in ascending order."""
    import numpy as np

    source = np.random.default_rng([seed, 1])
    return [np.sort(source.choice(n, min(size, n), replace=False)) for _ in range(DRAWS)]


def sample(n: int, size: int, seed: int) -> "Rows":
    """At most `size` of n rows under the seed, in ascending order; others than a selector's under the same one."""
    return ranks.sample(n, size, [seed, 2])


def spread(values: Sequence[float | None]) -> Range | None:
    """Mean and percentiles; None where a value is."""
    import numpy as np

    there = [value for value in values if value is not None]
    if len(there) < len(values) or not there:
        return None
    low, high = np.percentile(there, (2.5, 97.5))
    return Range(_mean(np.asarray(there)), round(float(low), DECIMALS), round(float(high), DECIMALS))


def nearest(
    vectors: "NDArray[np.float32]", records: "Rows", sets: Sequence["Rows"], *, itself: bool = True
) -> "NDArray[np.float32]":
    """Distance from each of R records to the nearest member of each of S sets, shape (S, R).

    A record that is a member is its own nearest, unless `itself` is false; a set without another member gives 2.
    What several sets share is compared once.
    """
    import numpy as np

    queries = np.asarray(vectors[records]).T
    sets = [np.sort(rows) for rows in sets]
    best = np.full((len(sets), len(records)), -1, np.float32)
    members = np.unique(np.concatenate(sets))
    size = max(1, min(4096, BLOCK // len(records)))
    for start in range(0, len(members), size):
        block = members[start : start + size]
        cosines = np.asarray(vectors[block]) @ queries
        if not itself:
            cosines[block[:, None] == records] = -1
        for rows, found in zip(sets, best, strict=True):
            first, last = np.searchsorted(rows, (block[0], block[-1] + 1))
            if first < last:
                inside = cosines[np.searchsorted(block, rows[first:last])]
                np.maximum(found, inside.max(axis=0), out=found)
    return np.clip(1 - best, 0, 2)


def vendi(vectors: "NDArray[np.float32]", rows: "Rows") -> float:
    """The Vendi score of rows with the cosine kernel (Friedman & Dieng 2023, arXiv 2210.02410).

    The kernel of n records and the D x D matrix of their second moments have the same eigenvalues beside zeros; the
    smaller one is taken.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    if len(rows) < vectors.shape[1]:
        few = np.asarray(vectors[rows], dtype=np.float64)
        kernel = few @ few.T
    else:
        kernel = np.zeros((vectors.shape[1],) * 2)
        for start in range(0, len(rows), 4096):
            block = np.asarray(vectors[rows[start : start + 4096]], dtype=np.float64)
            kernel += block.T @ block
    with threadpool_limits(1, "blas"):  # on a busy machine threads that wait for each other take ten times as long
        values = np.linalg.eigvalsh(kernel / len(rows))
    values = values[values > 0]
    return round(float(np.exp(-(values * np.log(values)).sum())), DECIMALS)


def _looked_at(n: int, size: int) -> int:
    return min(n, LOOKED_AT, max(FEWEST, PAIRS // size))


def _neighbour_mean(vectors: "NDArray[np.float32]", rows: "Rows", seed: int) -> float | None:
    if len(rows) < 2:
        return None
    records = rows[sample(len(rows), _looked_at(len(rows), len(rows)), seed)]
    return _mean(nearest(vectors, records, [rows], itself=False)[0])


def _entropy(topics: "Rows", count: int) -> float | None:
    import numpy as np

    if count < 2:
        return None
    shares = np.bincount(topics) / len(topics)
    shares = shares[shares > 0]
    return round(float(np.abs((shares * np.log(shares)).sum()) / np.log(count)), DECIMALS)


def _mean(values: "NDArray[Any]") -> float:
    import numpy as np

    return round(float(np.mean(values, dtype=np.float64)), DECIMALS)
