"""What holds for every selector: exactly so many, always the same ones, whatever the order."""

import math
import random
from pathlib import Path

import numpy as np
import pytest

from pipeline.component import Component, kind_of
from stages.selectors.base import Candidates, Choice
from tests.contract.families import example, of

each = pytest.mark.parametrize("component", of("selector"), ids=kind_of)


def candidates(n: int, *, vectors: str = "spread", scores: str = "spread", seed: int = 0) -> Candidates:
    """N candidates in ascending order of id."""
    source = np.random.default_rng(seed)
    found = source.normal(size=(n, 8)) if vectors == "spread" else np.ones((n, 8))
    found = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    marks = source.uniform(1, 5, size=n) if scores == "spread" else np.full(n, 3.0)
    return Candidates([f"id{i:03d}" for i in range(n)], found, marks)


def pick(component: type[Component], folder: Path, given: Candidates, keep: int, seed: int = 7) -> list[Choice]:
    choices: list[Choice] = example(component, folder).pick(given, keep, seed)
    assert len(choices) == len(given.ids)
    return choices


def chosen(choices: list[Choice], given: Candidates) -> set[str]:
    return {name for name, choice in zip(given.ids, choices, strict=True) if choice.chosen}


@each
@pytest.mark.parametrize(("n", "keep"), [(1, 1), (1, 5), (2, 1), (30, 1), (30, 7), (30, 29), (30, 30), (30, 99)])
def test_exactly_as_many_as_wanted(component: type[Component], tmp_path: Path, n: int, keep: int) -> None:
    """min(keep, N) are chosen."""
    given = candidates(n)
    assert len(chosen(pick(component, tmp_path, given, keep), given)) == min(keep, n)


@each
@pytest.mark.parametrize(("vectors", "scores"), [("same", "spread"), ("spread", "same"), ("same", "same")])
@pytest.mark.filterwarnings("error")
def test_identical_candidates_work(component: type[Component], tmp_path: Path, vectors: str, scores: str) -> None:
    """Equal vectors and equal scores still give exactly so many, without a warning."""
    given = candidates(12, vectors=vectors, scores=scores)
    assert len(chosen(pick(component, tmp_path, given, 5), given)) == 5


@each
def test_every_verdict_explains_itself(component: type[Component], tmp_path: Path) -> None:
    """Who is not chosen is told why by a slug; who is has no reason; values are finite."""
    for choice in pick(component, tmp_path, candidates(20), 6):
        assert (choice.reason == "") == choice.chosen
        assert choice.chosen or choice.reason.replace("_", "").islower()
        assert math.isfinite(choice.value)


@each
def test_the_same_pick_again(component: type[Component], tmp_path: Path) -> None:
    """Same candidates, same seed, same choices."""
    assert pick(component, tmp_path, candidates(40), 9) == pick(component, tmp_path, candidates(40), 9)


@each
def test_the_order_of_rows_does_not_matter(component: type[Component], tmp_path: Path) -> None:
    """Rows in any order, sorted by id as the stage does, give the same pick."""
    given = candidates(40)
    rows = list(zip(*given, strict=True))
    random.Random(1).shuffle(rows)
    assert [row[0] for row in rows] != given.ids
    rows.sort(key=lambda row: row[0])
    again = Candidates([r[0] for r in rows], np.stack([r[1] for r in rows]), np.asarray([r[2] for r in rows]))
    assert pick(component, tmp_path, again, 9) == pick(component, tmp_path, given, 9)


def test_random_depends_on_the_seed(tmp_path: Path) -> None:
    """Another seed draws others; a candidate that leaves changes at most one of the drawn."""
    (component,) = (c for c in of("selector") if kind_of(c) == "random")
    given = candidates(60)
    first = chosen(pick(component, tmp_path, given, 20, seed=1), given)
    assert first != chosen(pick(component, tmp_path, given, 20, seed=2), given)
    gone = sorted(first)[0]
    left = [i for i, name in enumerate(given.ids) if name != gone]
    fewer = Candidates([given.ids[i] for i in left], given.vectors[left], given.scores[left])
    assert chosen(pick(component, tmp_path, fewer, 20, seed=1), fewer) > first - {gone}


def test_top_takes_the_highest_scores(tmp_path: Path) -> None:
    """No one left out has a higher score than anyone chosen; ties go to the smaller id."""
    (component,) = (c for c in of("selector") if kind_of(c) == "top")
    given = candidates(30)
    best = {given.ids[i] for i in np.argsort(-given.scores)[:10]}
    assert chosen(pick(component, tmp_path, given, 10), given) == best
    tied = candidates(30, scores="same")
    assert chosen(pick(component, tmp_path, tied, 10), tied) == set(tied.ids[:10])


def test_cluster_takes_the_best_of_every_cluster(tmp_path: Path) -> None:
    """Three far-apart groups, three to keep: the best-scored of each, though one group has all high scores."""
    (component,) = (c for c in of("selector") if kind_of(c) == "cluster")
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    vectors += np.random.default_rng(0).normal(scale=0.01, size=vectors.shape).astype(np.float32)
    scores = np.array([5, 4.9, 4.8, 4.7, 1, 2, 1, 1, 1, 1, 1, 3], dtype=np.float64)
    given = Candidates([f"id{i:02d}" for i in range(12)], vectors, scores)
    choices = pick(component, tmp_path, given, 3)
    assert chosen(choices, given) == {"id00", "id05", "id11"}
    assert {c.reason for c in choices if not c.chosen} == {"cluster_full"}
    assert len({c.value for c in choices if c.chosen}) == 3
