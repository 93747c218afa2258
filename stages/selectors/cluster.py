"""Diversity by k-means, quality within each cluster: few but good and diverse (LIMA, arXiv 2305.11206)."""

from typing import Annotated, Literal

from pydantic import Field

from stages.selectors.base import Candidates, Choice, Selector


class Cluster(Selector):
    """As many k-means clusters as records to keep; from each the best-scored member, ties by nearness to the centre."""

    kind: Literal["cluster"] = "cluster"
    clusters: Annotated[int | None, Field(ge=1, description="as many as `keep` when left out")] = None

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Clusters take turns, each giving its best member left, until `keep` are chosen."""
        import numpy as np
        from sklearn.cluster import KMeans

        n = len(candidates.ids)
        keep = min(keep, n)
        distinct = len(np.unique(candidates.vectors, axis=0))
        k = min(self.clusters or keep, distinct)
        model = KMeans(n_clusters=k, n_init=1, random_state=seed).fit(candidates.vectors)
        labels = model.labels_
        distance = np.linalg.norm(candidates.vectors - model.cluster_centers_[labels], axis=1)
        members: dict[int, list[int]] = {}
        for i in np.lexsort((np.arange(n), distance, -candidates.scores)):
            members.setdefault(int(labels[i]), []).append(int(i))
        chosen = _take_turns(members, keep)
        return [
            Choice(True, float(labels[i]), detail=f"distance {distance[i]:.3f}")
            if i in chosen
            else Choice(False, float(labels[i]), "cluster_full", _instead(candidates, members[int(labels[i])]))
            for i in range(n)
        ]


def _take_turns(members: dict[int, list[int]], keep: int) -> set[int]:
    """The first of every cluster, then the second of every one, until there are `keep`; large clusters first."""
    chosen: set[int] = set()
    order = sorted(members, key=lambda c: (-len(members[c]), c))
    turn = 0
    while len(chosen) < keep:
        for cluster in order:
            if turn < len(members[cluster]) and len(chosen) < keep:
                chosen.add(members[cluster][turn])
        turn += 1
    return chosen


def _instead(candidates: Candidates, ranked: list[int]) -> str:
    best = ranked[0]
    return f"{candidates.ids[best]} stands for the cluster with {candidates.scores[best]:.2f}"
