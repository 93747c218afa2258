"""Topics of many vectors, for people to look at: k-means clusters, each with a name from its words.

`find` needs the vectors alone. It says by `wanted` which texts it would like to read for the names; `named` gives
those from the texts. Distances are 1 - cosine.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from stages.diversity import nearest, sample
from stages.terms import names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

FIT = 20_000  # vectors that k-means sees, at most
FEWEST, MOST = 2, 24  # topics
STARTS = 3  # of k-means; the best one counts
BLOCK = 4096
CENTRAL, ISOLATED = 3, 5  # records named per topic, and in all
READ = 60  # texts of a topic its name comes from
PAIRS = 200_000_000  # distances computed for the isolated records
APART = 1e-4  # difference between two numbers of vectors that are not the same


class Topics(NamedTuple):
    """K topics of N records, the largest first; rows count from 0, and so do topics."""

    labels: "NDArray[np.int64]"
    """(N,) the topic of each record"""
    distances: "NDArray[np.float32]"
    """(N,) from the centre of its topic"""
    sizes: list[int]
    """(K,)"""
    near: list[list[int]]
    """(K, up to 60) rows of the records nearest to each centre, the nearest first"""
    isolated: list[tuple[int, float]]
    """up to 5 rows far from every other record, the farthest first, with the distance to the nearest other"""

    @property
    def central(self) -> list[list[int]]:
        """Of each topic up to 3 rows, the nearest to its centre first."""
        return [rows[:CENTRAL] for rows in self.near]

    def wanted(self) -> list[int]:
        """Rows whose texts `named` reads, in ascending order."""
        return sorted(row for rows in self.near for row in rows)


def find(vectors: "NDArray[np.float32]", seed: int) -> Topics:
    """Topics of N vectors (N, D) of unit length, N at least 1: about sqrt(N / 2) of them, between 2 and 24.

    The centres come from at most 20,000 records. Where N is above 14,000 the isolated records are sought among those
    farthest from a random sample, as many as 200 million comparisons with all others allow.
    """
    import numpy as np

    centres = _centres(vectors, seed)
    labels = np.concatenate([_label(vectors[i : i + BLOCK], centres) for i in range(0, len(vectors), BLOCK)])
    used, firsts, labels, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((firsts, -sizes))
    labels = np.argsort(order)[labels]
    distances = _distances(vectors, centres[used[order]], labels)
    by_distance = np.lexsort((np.arange(len(labels)), distances, labels))
    near = [rows[:READ].tolist() for rows in np.split(by_distance, np.cumsum(sizes[order])[:-1])]
    return Topics(labels, distances, sizes[order].tolist(), near, _isolated(vectors, seed))


def named(topics: Topics, texts: Mapping[int, str]) -> list[str]:
    """A name for each topic, three terms as a rule and no two alike; `texts` has every wanted row."""
    return names([[texts[row] for row in rows] for rows in topics.near])


def _centres(vectors: "NDArray[np.float32]", seed: int) -> "NDArray[np.float32]":
    """(K, D), not normalised; K is smaller where fewer vectors differ."""
    import numpy as np
    from sklearn.cluster import KMeans

    seen = np.asarray(vectors[sample(len(vectors), FIT, seed)])
    distinct = len(np.unique(np.round(seen / APART).astype(np.int16), axis=0))
    k = min(max(FEWEST, min(round(math.sqrt(len(vectors) / 2)), MOST)), distinct)
    model = KMeans(k, n_init=STARTS, random_state=seed).fit(seen)
    centres: NDArray[np.float32] = model.cluster_centers_
    return centres


def _label(block: "NDArray[np.float32]", centres: "NDArray[np.float32]") -> "Rows":
    """The nearest centre of each, by Euclidean distance as in k-means."""
    import numpy as np

    closeness = np.asarray(block) @ centres.T - (centres**2).sum(axis=1) / 2
    labels: Rows = closeness.argmax(axis=1)
    return labels


def _distances(vectors: "NDArray[np.float32]", centres: "NDArray[np.float32]", labels: "Rows") -> "NDArray[np.float32]":
    import numpy as np

    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    centres = centres / np.maximum(lengths, np.finfo(np.float32).tiny)
    found = [
        1 - np.einsum("ij,ij->i", vectors[i : i + BLOCK], centres[labels[i : i + BLOCK]])
        for i in range(0, len(labels), BLOCK)
    ]
    # Members equally far but for rounding go by row.
    distances: NDArray[np.float32] = np.round(np.clip(np.concatenate(found), 0, 2), 6)
    return distances


def _isolated(vectors: "NDArray[np.float32]", seed: int) -> list[tuple[int, float]]:
    import numpy as np

    n = len(vectors)
    if n < 2:
        return []
    rows = np.arange(n)
    looked_at = min(n, max(1000, PAIRS // n))
    if looked_at < n:
        # The nearest record of a sample is no nearer than the nearest of all.
        seen = sample(n, looked_at, seed)
        bounds = [nearest(vectors, rows[i : i + BLOCK], [seen], itself=False)[0] for i in range(0, n, BLOCK)]
        rows = np.sort(np.lexsort((rows, -np.concatenate(bounds)))[:looked_at])
    apart = np.round(nearest(vectors, rows, [np.arange(n)], itself=False)[0], 6)
    return [(int(rows[i]), float(apart[i])) for i in np.lexsort((rows, -apart))[:ISOLATED]]
