"""Each selector beside its definition written out plainly, on planted groups, and on real texts."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from pipeline.errors import PipelineError
from stages.gradients import Gradients
from stages.selectors import cluster, dpp, facility, k_center, score_first
from stages.selectors.base import Choice
from stages.selectors.cluster import Cluster
from stages.selectors.dpp import Dpp
from stages.selectors.facility import Facility
from stages.selectors.gradient import Gradient
from stages.selectors.herding import Herding
from stages.selectors.k_center import KCenter
from stages.selectors.kernel import gaussian, width
from stages.selectors.random import Random
from stages.selectors.score_first import ScoreFirst
from stages.selectors.top import Top
from tests.stages.chosen import Rows, among, ranked, unit

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, n: int = 60, dimensions: int = 6) -> Rows:
    """Unit vectors in every direction; each fifth is the same as another."""
    rows = np.random.default_rng(seed).normal(size=(n, dimensions))
    rows[::5] = rows[1]
    return unit(rows)


def worst_step(order: list[int], n: int, worth: Callable[[list[int], int], float]) -> float:
    """By how much, at any step, the chosen was worth less than the best one could have had."""
    return max(
        max(worth(order[:turn], i) for i in range(n) if i not in order[:turn]) - worth(order[:turn], order[turn])
        for turn in range(len(order))
    )


def test_top_takes_the_highest_scores() -> None:
    """Ranks follow scores; ties go to the smaller id; who is left reads what was needed."""
    choices = Top().pick(among(drawn(0, 5), [1, 3, 2, 3, 0.5]), 3, 0)
    assert ranked(choices) == [1, 3, 2]
    assert choices[4] == Choice(0, "below_score", "0.5; the last one chosen has 2")


def test_random_depends_on_the_seed() -> None:
    """Another seed draws others; a candidate that leaves changes at most one of the drawn."""
    given = among(drawn(0, 60))
    first = ranked(Random().pick(given, 20, 1))
    assert set(first) != set(ranked(Random().pick(given, 20, 2)))
    left = [i for i in range(60) if i != first[0]]
    fewer = given._replace(ids=[given.ids[i] for i in left], vectors=given.vectors[left])
    assert [left[i] for i in ranked(Random().pick(fewer, 20, 1))][:19] == first[1:]


def clusters(monkeypatch: pytest.MonkeyPatch, labels: list[int], distance: list[float]) -> None:
    monkeypatch.setattr(cluster, "_clusters", lambda *a: (np.array(labels), np.array(distance)))


def test_cluster_takes_the_best_then_the_nearest_then_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large clusters go first; within each score counts, then distance, then id."""
    clusters(monkeypatch, [4, 4, 7, 7, 7, 1], [0.1, 0.2, 0.5, 0.3, 0.3, 0.0])
    choices = Cluster().pick(among(drawn(0, 6), [1, 2, 5, 5, 5, 9]), 3, 0)
    assert ranked(choices) == [3, 1, 5]
    assert choices[2] == Choice(0, "cluster_full", "cluster 1 of 3, 0.500 from its centre; id0003 stands for it")
    assert choices[1] == Choice(2, "", "cluster 2 of 3, 0.200 from its centre")


def test_clusters_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """More to keep than clusters: each gives its best, then its second; an empty one is passed over."""
    clusters(monkeypatch, [0, 0, 1, 2, 2, 2], [0.0] * 6)
    assert ranked(Cluster(clusters=3).pick(among(drawn(0, 6), [1, 2, 3, 4, 5, 6]), 5, 0)) == [5, 1, 2, 4, 0]


def test_the_largest_clusters_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer to keep than clusters: the small ones are left out, and say so."""
    clusters(monkeypatch, [0, 0, 1, 2, 2, 2], [0.0] * 6)
    choices = Cluster(clusters=3).pick(among(drawn(0, 6)), 2, 0)
    assert ranked(choices) == [3, 0]
    assert choices[2] == Choice(
        0, "small_cluster", "cluster 3 of 3, 0.000 from its centre; the 2 largest gave one each"
    )


@pytest.mark.parametrize("lloyd", [0, 10**8])
def test_clusters_are_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch, lloyd: int) -> None:
    """Both ways to k-means give one result, whether libraries may use one thread or all."""
    monkeypatch.setattr(cluster, "LLOYD", lloyd)
    monkeypatch.setattr(cluster, "BATCH", 512)
    vectors = unit(np.random.default_rng(3).normal(size=(1500, 24)))
    with threadpool_limits(1, user_api="openmp"):
        labels, distance = cluster._clusters(vectors, 40, 5)
    again, away = cluster._clusters(vectors, 40, 5)
    assert labels.tolist() == again.tolist() and distance.tolist() == away.tolist()


@given(seed=SEEDS, keep=st.integers(1, 30), pool=st.integers(1, 70))
def test_k_center_takes_the_farthest(seed: int, keep: int, pool: int) -> None:
    """From the record nearest to the mean on; looking at a pool of the farthest changes nothing."""
    vectors = drawn(seed)
    cosines = vectors.astype(np.float64) @ vectors.T
    central = cosines.mean(axis=1)

    def worth(order: list[int], i: int) -> float:
        return float(-cosines[i, order].max() if order else central[i])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(k_center, "POOL", pool)
        choices = KCenter().pick(among(vectors), keep, 0)
    order = ranked(choices)
    assert worst_step(order, 60, worth) < 2e-6
    for i, choice in enumerate(choices):
        if not choice.chosen:
            said, near = choice.detail.removeprefix("cosine ").split(" to id")
            assert cosines[i, int(near)] == pytest.approx(cosines[i, order].max(), abs=1e-5)
            assert float(said) == pytest.approx(cosines[i, order].max(), abs=6e-4) and choice.reason == "covered"


@given(seed=SEEDS, keep=st.integers(1, 30), held=st.integers(1, 4000))
def test_facility_is_plain_greedy(seed: int, keep: int, held: int) -> None:
    """Lazy, in batches, with few columns held: the same choice as adding up everything each time."""
    vectors = drawn(seed)
    similar = np.maximum(vectors.astype(np.float64) @ vectors.T, 0)

    def worth(order: list[int], i: int) -> float:
        return float(similar[:, [*order, i]].max(axis=1).sum() - (similar[:, order].max(axis=1).sum() if order else 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facility, "HELD", held)
        patch.setattr(facility, "BATCH", 7)
        order = ranked(Facility().pick(among(vectors), keep, 0))
    assert worst_step(order, 60, worth) < 2e-4


def test_facility_stands_for_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many records a sample is stood for; it depends on the seed, and all can be chosen."""
    monkeypatch.setattr(facility, "SAMPLE", 40)
    given = among(drawn(1, 400))
    one, other = ranked(Facility().pick(given, 30, 1)), ranked(Facility().pick(given, 30, 2))
    assert one == ranked(Facility().pick(given, 30, 1)) and one != other
    assert len(set(one) - set(np.random.default_rng(1).choice(400, 40, replace=False).tolist())) > 5


@given(seed=SEEDS, keep=st.integers(1, 30), limit=st.sampled_from([-1.0, 0.2, 0.6, 0.9]))
def test_score_first_skips_neighbours(seed: int, keep: int, limit: float) -> None:
    """As one would by hand: down the scores, past whoever is near; the skipped fill up in order."""
    vectors = drawn(seed)
    cosines = vectors.astype(np.float64) @ vectors.T
    scores = np.random.default_rng(seed).integers(1, 9, size=60)
    order: list[int] = []
    skipped: dict[int, int] = {}
    for i in sorted(range(60), key=lambda i: (-scores[i], i)):
        if len(order) == keep:
            break
        if order and cosines[i, order].max() > limit:
            skipped[i] = order[int(cosines[i, order].argmax())]
        else:
            order.append(i)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_first, "BLOCK", 8)
        choices = ScoreFirst(max_cosine=limit).pick(among(vectors, scores), keep, 0)
    assert ranked(choices) == (order + list(skipped))[:keep]
    for i, near in skipped.items():
        said, _, named = choices[i].detail.removeprefix("fills up: ").removeprefix("cosine ").partition(" to id")
        assert float(said) == pytest.approx(cosines[i, near], abs=6e-4)
        assert choices[i].reason == ("" if choices[i].chosen else "near_chosen")
        assert cosines[i, int(named)] == pytest.approx(cosines[i, near], abs=1e-6)
    untouched = [c for i, c in enumerate(choices) if not c.chosen and i not in skipped]
    assert {c.reason for c in untouched} <= {"below_score"}


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("pool", [2, 7, 99])
@pytest.mark.parametrize("seed", range(3))
def test_dpp_is_the_greedy_determinant(monkeypatch: pytest.MonkeyPatch, seed: int, pool: int, weight: float) -> None:
    """Each next one makes (1 - lambda) log det + lambda scores largest, by determinants of the kernel itself."""
    monkeypatch.setattr(dpp, "POOL", pool)
    monkeypatch.setattr(dpp, "ROUND", 3)
    vectors = unit(np.random.default_rng(seed).normal(size=(30, 5)))
    scores = np.random.default_rng(seed).uniform(1, 5, size=30)
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    wide = width(vectors, seed)
    kernel = np.exp(-np.square(vectors[:, None] - vectors[None]).sum(-1).astype(np.float64) / (2 * wide**2))

    def worth(order: list[int], i: int) -> float:
        both, before = (np.linalg.slogdet(kernel[np.ix_(some, some)])[1] for some in ([*order, i], order))
        return float((1 - weight) * (both - before) + weight * scaled[i])

    picked = Dpp.model_validate({"lambda": weight}).pick(among(vectors, scores), 8, seed)
    assert worst_step(ranked(picked), 30, worth) < 1e-4


def test_dpp_by_score_alone_is_top() -> None:
    """lambda 1 leaves the score; lambda 0 leaves it out."""
    vectors, scores = drawn(2), np.random.default_rng(2).uniform(1, 5, size=60)
    alone = Dpp.model_validate({"lambda": 1})
    assert ranked(alone.pick(among(vectors, scores), 9, 0)) == ranked(Top().pick(among(vectors, scores), 9, 0))
    never = Dpp.model_validate({"lambda": 0})
    assert never.pick(among(vectors, scores), 9, 0)[:1] != alone.pick(among(vectors, scores), 9, 0)[:1]
    assert ranked(never.pick(among(vectors, scores), 9, 0)) == ranked(never.pick(among(vectors), 9, 0))


def test_dpp_takes_twins_last() -> None:
    """Twelve copies of one record have no volume: all others go before the second."""
    assert set(ranked(Dpp.model_validate({"lambda": 0}).pick(among(drawn(4)), 49, 0))) >= {
        i for i in range(60) if i % 5 and i != 1
    }


def test_dpp_refuses_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too much memory is an error that says how much would do, and what else there is."""
    monkeypatch.setattr(dpp, "MOST", 59 * 10)
    with pytest.raises(PipelineError, match="to keep 10 of 60 records\nhint: keep 9 or fewer, or select by facility"):
        Dpp().pick(among(drawn(0)), 10, 0)
    assert len(ranked(Dpp().pick(among(drawn(0)), 9, 0))) == 9


@given(seed=SEEDS)
def test_herding_follows_the_mean(seed: int) -> None:
    """Each next one has the largest mean likeness to all less that to those before."""
    vectors = drawn(seed)
    wide = width(vectors, 3)
    kernel = np.exp(-np.square(vectors[:, None] - vectors[None]).sum(-1).astype(np.float64) / (2 * wide**2))

    def worth(order: list[int], i: int) -> float:
        return float(kernel[i].mean() - kernel[i, order].sum() / (len(order) + 1))

    assert worst_step(ranked(Herding().pick(among(vectors), 20, 3)), 60, worth) < 2e-6


def test_herding_keeps_the_mixture() -> None:
    """Of three groups of 600, 300 and 100 a tenth holds about a tenth of each."""
    groups = np.repeat(np.eye(3), [600, 300, 100], axis=0)
    vectors = unit(groups + np.random.default_rng(0).normal(scale=0.3, size=groups.shape))
    counts = np.bincount(np.repeat(range(3), [600, 300, 100])[ranked(Herding().pick(among(vectors), 100, 0))])
    assert counts.tolist() == pytest.approx([60, 30, 10], abs=4)


@given(seed=SEEDS, keep=st.integers(1, 20))
def test_gradient_follows_the_mean_of_features(seed: int, keep: int) -> None:
    """Each next one brings the mean of the chosen as near to the mean of all as any can."""
    features = np.random.default_rng(seed).normal(size=(40, 7)).astype(np.float32)
    features[::4] = features[1]
    exact = features.astype(np.float64)

    def worth(order: list[int], i: int) -> float:
        return float(-np.linalg.norm(exact[[*order, i]].mean(axis=0) - exact.mean(axis=0)))

    order = ranked(Gradient(model="none").pick(among(drawn(seed, 40), features=features), keep, 0))
    assert worst_step(order, 40, worth) < 1e-4


def test_gradient_compares_by_the_students_gradients() -> None:
    """Its settings are those of its space."""
    assert Gradient(model="none", max_tokens=64).space() == Gradients(model="none", max_tokens=64)


def test_gradient_beats_random_draws() -> None:
    """Fifty of a thousand whose mean is a fifth as far from that of all as a random fifty's is."""
    features = np.random.default_rng(0).normal(size=(1000, 32)).astype(np.float32)

    def away(some: list[int]) -> float:
        return float(np.linalg.norm(features[some].mean(axis=0) - features.mean(axis=0)))

    chosen = ranked(Gradient(model="none").pick(among(drawn(0, 1000), features=features), 50, 0))
    draws = [away(ranked(Random().pick(among(drawn(0, 1000)), 50, seed))) for seed in range(20)]
    assert away(chosen) < 0.2 * np.mean(draws)


def test_the_kernel_tells_strangers_from_neighbours() -> None:
    """At the median distance it is exp(-2); between the same records 1; with one distinct record it still works."""
    vectors = drawn(0, 400, 200)
    wide = width(vectors, 0)
    cosines = vectors @ vectors.T
    typical = np.median(cosines[np.triu_indices(400, 1)])
    assert gaussian(np.array([typical, 1], np.float32), wide) == pytest.approx([math.exp(-2), 1], rel=1e-3)
    assert width(np.ones((3, 1), np.float32), 0) == width(np.ones((1, 1), np.float32), 0) == 1
