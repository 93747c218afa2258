"""What a choice is worth: planted groups are all there, and of real texts more is covered than by random draws."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.selectors import cluster
from stages.selectors.base import Candidates, Selector
from stages.selectors.cluster import Cluster
from stages.selectors.dpp import Dpp
from stages.selectors.facility import Facility
from stages.selectors.herding import Herding
from stages.selectors.k_center import KCenter
from stages.selectors.random import Random
from stages.selectors.score_first import ScoreFirst
from stages.selectors.top import Top
from tests.filters import good_rows
from tests.stages.chosen import Rows, among, ranked, unit

PLANTED = [400, 250, 150, 90, 60, 40, 25, 15, 10, 6, 4, 3]


def planted(seed: int = 0) -> tuple[Candidates, NDArray[np.int64]]:
    """Twelve groups far apart, of 400 to 3 records in any order; the largest has all the high scores."""
    source = np.random.default_rng(seed)
    groups = source.permutation(np.repeat(range(12), PLANTED))
    vectors = unit(np.eye(24)[groups] + source.normal(scale=0.02, size=(len(groups), 24)))
    return among(vectors, source.uniform(1, 4, size=len(groups)) + 2 * (groups == 0)), groups


@pytest.mark.parametrize("keep", [12, 17, 24])
@pytest.mark.parametrize("selector", [Cluster(), KCenter(), Facility()], ids=lambda s: s.kind)
def test_planted_groups_are_covered(selector: Selector, keep: int) -> None:
    """Each of twelve groups is there, which the best scores alone do not give."""
    candidates, groups = planted()
    assert set(groups[ranked(selector.pick(candidates, keep, 1))]) == set(range(12))
    assert set(groups[ranked(Top().pick(candidates, keep, 1))]) == {0}


def test_planted_groups_are_covered_by_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So they are where there are too many records for whole steps of k-means; the best of each group is chosen."""
    monkeypatch.setattr(cluster, "LLOYD", 0)
    monkeypatch.setattr(cluster, "BATCH", 256)
    candidates, groups = planted()
    chosen = ranked(Cluster().pick(candidates, 12, 1))
    assert sorted(groups[chosen]) == list(range(12))
    for i in chosen:
        assert candidates.scores[i] == candidates.scores[groups == groups[i]].max()


@pytest.fixture(scope="module")
def real() -> Iterator[Rows]:
    """The first 100 characters of 1,500 texts of six sources, English and Korean, embedded once."""
    from pipeline.embedder import Embedder

    sources = [
        [row.answer for row in good_rows.role_plays()[:350]],
        [row.prompt for row in good_rows.solutions()[:350]],
        [row.prompt for row in good_rows.chats_ko()[:350]],
        [row.prompt for row in good_rows.alpaca_rows()[:250]],
        [row.prompt for row in good_rows.self_instruct()[:100]],
        [row.answer for row in good_rows.stories("stories_en")[:100]],
    ]
    encoder = Embedder().open()
    yield encoder.encode([text[:100] for source in sources for text in source])
    encoder.close()


def cover(vectors: Rows, chosen: list[int]) -> tuple[float, float]:
    """Mean and largest distance (1 - cosine) of all records to the nearest chosen."""
    away = 1 - (vectors @ vectors[chosen].T).max(axis=1)
    return float(away.mean()), float(away.max())


def vendi(vectors: Rows, chosen: list[int]) -> float:
    """How many different records there are, in effect (Friedman & Dieng 2023, arXiv 2210.02410)."""
    shares = np.linalg.eigvalsh((vectors[chosen].T @ vectors[chosen] / len(chosen)).astype(np.float64))
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


DIFFERENCE = Dpp.model_validate({"lambda": 0})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("selector", "figure"),
    [
        (Cluster(), "mean"),
        (Facility(), "mean"),
        (Herding(), "mean"),
        (KCenter(), "worst"),
        (KCenter(), "vendi"),
        (DIFFERENCE, "worst"),
        (DIFFERENCE, "vendi"),
        (ScoreFirst(max_cosine=0.5), "vendi"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_real_texts_are_covered(real: Rows, selector: Selector, figure: str) -> None:
    """150 of 1,500 real texts do better than each of twenty random draws, in what the selector is for."""
    constant, scored = among(real), among(real, np.random.default_rng(0).uniform(1, 5, size=len(real)))

    def bad(chosen: list[int]) -> float:
        mean, worst = cover(real, chosen)
        return {"mean": mean, "worst": worst, "vendi": -vendi(real, chosen)}[figure]

    draws = [bad(ranked(Random().pick(constant, 150, seed))) for seed in range(20)]
    for candidates in (constant, scored):
        assert bad(ranked(selector.pick(candidates, 150, 0))) < min(draws)
