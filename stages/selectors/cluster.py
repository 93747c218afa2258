"""Diversity by k-means, quality within each cluster: few but good and diverse (LIMA, arXiv 2305.11206)."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.ranks import DIGITS, blocks, everyone, sample, verdicts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LLOYD = 10**8  # records times clusters up to which every record moves the centres; beyond, batches of them do
ITERATIONS = 25
BATCH, EPOCHS = 10_240, 4  # more than four rounds of batches bring little
STARTERS = 10_000  # records among whom k-means starts
NOTHING = 1e-5  # squared distance under which two records are the same


class Cluster(Selector):
    """As many k-means clusters as records to keep; from each the best-scored member, ties by nearness to the centre."""

    kind: Literal["cluster"] = "cluster"
    clusters: Annotated[int | None, Field(ge=1, description="as many as `keep` when left out")] = None

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Clusters take turns, large ones first, each giving its best member left, until `keep` are chosen."""
        import numpy as np

        n, ids = len(candidates.ids), candidates.ids
        if keep >= n:
            return everyone(candidates)
        found, distance = _clusters(candidates.vectors, min(self.clusters or keep, n), seed)
        labels, count = _by_size(found)
        ranked = np.lexsort((distance, -candidates.scores, labels))  # cluster by cluster, the best first
        starts = np.searchsorted(labels[ranked], np.arange(count))
        turn = np.empty(n, np.int64)
        turn[ranked] = np.arange(n) - starts[labels[ranked]]
        order = np.lexsort((labels, turn))[:keep].tolist()

        def where(i: int) -> str:
            return f"cluster {labels[i] + 1} of {count}, {distance[i]:.3f} from its centre"

        def left_out(i: int) -> tuple[str, str]:
            if labels[i] >= keep:
                return "small_cluster", f"{where(i)}; the {keep} largest gave one each"
            return "cluster_full", f"{where(i)}; {ids[ranked[starts[labels[i]]]]} stands for it"

        return verdicts(order, n, left_out, where)


def _by_size(labels: "NDArray[np.int32]") -> "tuple[NDArray[np.int64], int]":
    """The same clusters numbered from the largest (0) to the smallest, ties by their first member; and how many."""
    import numpy as np

    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    place = np.empty(len(sizes), np.int64)
    place[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return place[inverse], len(sizes)


def _clusters(vectors: "NDArray[np.float32]", k: int, seed: int) -> "tuple[NDArray[np.int32], NDArray[np.float32]]":
    """The cluster of each of `vectors` (N, D), and its distance to the centre, both (N,).

    The same whatever the number of threads: scikit-learn adds up a step of k-means in the order in which its threads
    end, so it has one; its mini-batches have no such sum.
    """
    import numpy as np
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    starts = _starts(np.asarray(vectors[sample(len(vectors), max(STARTERS, 2 * k), seed)]), k, seed)
    few = len(vectors) * k <= LLOYD
    settings = {"n_clusters": len(starts), "init": starts, "n_init": 1, "random_state": seed}
    if few:
        model = KMeans(max_iter=ITERATIONS, **settings)
    else:
        epochs = max(1, min(EPOCHS, 100 * LLOYD // (len(vectors) * k)))
        model = MiniBatchKMeans(
            max_iter=epochs,
            batch_size=BATCH,
            max_no_improvement=None,  # looks at a sum, too
            reassignment_ratio=0,  # small clusters are not mistakes
            **settings,
        )
    with threadpool_limits(1 if few else None, user_api="openmp"):
        model.fit(vectors)
    distance = np.empty(len(vectors), np.float32)
    for part in blocks(len(vectors), vectors.shape[1]):
        apart = vectors[part] - model.cluster_centers_[model.labels_[part]]
        distance[part] = np.round(np.linalg.norm(apart, axis=1), DIGITS)
    return model.labels_, distance


def _starts(vectors: "NDArray[np.float32]", k: int, seed: int) -> "NDArray[np.float32]":
    """Up to k of `vectors` to start from, fewer where fewer differ: greedy k-means++ (Arthur & Vassilvitskii 2007).

    Each new one is the best of a few drawn by squared distance to those before. Random starts cost nothing, but their
    clusters' lead in cover over a random choice is half as large. scikit-learn's k-means++ works in double precision.
    """
    import numpy as np

    source, tries = np.random.default_rng(seed), 2 + int(np.log(k))
    starts: list[int] = []
    square = np.full(len(vectors), 4, np.float32)  # of the distance to the nearest start; 4 is the largest
    while len(starts) < k and square.any():
        mass = np.cumsum(square, dtype=np.float64)
        drawn = np.searchsorted(mass, source.random(tries) * mass[-1], side="right")
        closer = vectors[drawn] @ vectors.T
        closer *= -2
        closer += 2
        np.minimum(closer, square, out=closer)
        best = int(closer.sum(axis=1).argmin())
        starts.append(int(drawn[best]))
        square = np.where(closer[best] < NOTHING, np.float32(0), closer[best])
    return vectors[starts]
