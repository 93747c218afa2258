"""Diversity: the figures are those of plain definitions, and a spread choice looks better than random ones."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import diversity
from stages.diversity import BETTER, DRAWS, Pool, compare, measure, nearest, random_sets, vendi


def unit(values: Any) -> Any:
    found = np.asarray(values, dtype=np.float64)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def pool(n: int, *, dimensions: int = 6, kinds: int | None = None, seed: int = 0) -> Pool:
    """N records; where `kinds` is given, as many different vectors among them."""
    source = np.random.default_rng(seed)
    vectors = unit(source.normal(size=(kinds or n, dimensions)))
    if kinds:
        vectors = vectors[source.integers(kinds, size=n)]
    return Pool(vectors, source.uniform(1, 5, n), source.integers(1, 900, n), source.integers(0, 3, n))


def planted() -> Pool:
    """Twelve groups of very unequal size, far from each other: one of 200 records, eleven of 5."""
    source = np.random.default_rng(3)
    topics = np.repeat(np.arange(12), [200] + [5] * 11)
    vectors = unit(np.eye(12)[topics] + source.normal(scale=0.03, size=(len(topics), 12)))
    return Pool(vectors, np.ones(len(topics)), np.full(len(topics), 10), topics)


def naive(given: Pool, rows: Any) -> dict[str, float | None]:
    """The definitions, pair by pair, in double precision."""
    vectors = given.vectors.astype(np.float64)
    apart = 1 - vectors @ vectors.T
    closest = apart[:, rows].min(axis=1)
    others = [min(apart[i, j] for j in rows if j != i) for i in rows] if len(rows) > 1 else None
    kernel = np.linalg.eigvalsh(vectors[rows] @ vectors[rows].T / len(rows))
    shares = [float(np.mean(given.topics[rows] == t)) for t in set(given.topics.tolist())]
    entropy = sum(-s * math.log(s) for s in shares if s)
    return {
        "coverage_mean": float(closest.mean()),
        "coverage_worst": float(closest.max()),
        "neighbour_mean": float(np.mean(others)) if others else None,
        "vendi": math.exp(-sum(v * math.log(v) for v in kernel if v > 0)),
        "topic_entropy": entropy / math.log(len(shares)) if len(shares) > 1 else None,
        "score_mean": float(given.scores[rows].mean()),
        "chars_mean": float(given.chars[rows].mean()),
    }


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([2, 6, 50]), st.sampled_from([None, 1, 3]))
def test_figures_are_those_of_the_definitions(n: int, size: int, dimensions: int, kinds: int | None) -> None:
    """Any number of records, of dimensions, of the chosen; vectors that repeat."""
    given = pool(n, dimensions=dimensions, kinds=kinds, seed=n)
    rows = np.random.default_rng(size).choice(n, min(size, n), replace=False)
    expected = naive(given, rows)
    for name, value in measure(given, [rows], 0)[0]._asdict().items():
        assert value == (None if expected[name] is None else pytest.approx(expected[name], abs=2e-5, rel=1e-5)), name


@pytest.mark.parametrize("block", [1, 70, 1000])
@pytest.mark.parametrize("itself", [True, False])
def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch, block: int, itself: bool) -> None:
    """Sets that overlap, are disjoint, or of one: the nearest member is found across the borders of blocks."""
    monkeypatch.setattr(diversity, "BLOCK", block)
    vectors = pool(60).vectors
    sets = [np.arange(0, 30), np.arange(20, 60), np.array([59, 3]), np.array([7])]
    records = np.array([0, 7, 25, 59])
    apart = 1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    for rows, found in zip(sets, nearest(vectors, records, sets, itself=itself), strict=True):
        for record, distance in zip(records, found, strict=True):
            members = [apart[record, j] for j in rows if itself or j != record]
            assert distance == pytest.approx(min(members, default=2), abs=1e-6)


def test_the_vendi_score_counts_what_differs() -> None:
    """Orthogonal records count each, equal ones count once, whichever matrix is the smaller."""
    axes = np.repeat(np.eye(5, dtype=np.float32), 4, axis=0)
    assert vendi(axes, np.arange(0, 20, 4)) == pytest.approx(5)
    assert vendi(axes, np.arange(20)) == pytest.approx(5)
    assert vendi(axes, np.arange(4)) == pytest.approx(1)
    assert vendi(axes, np.arange(8)) == pytest.approx(2)


def test_one_of_each_group_beats_random_choices() -> None:
    """On groups of unequal size every figure that says better for diversity does, outside the range of chance."""
    given = planted()
    rows = np.array([0, *range(200, 255, 5)])
    found = compare(given, rows, 0)
    assert found.chosen == 12 and found.draws == DRAWS and found.looked_at == 255
    for name in ("coverage_mean", "coverage_worst"):
        figure = found.figures[name]
        assert figure.better == "lower" and figure.chosen is not None and figure.random
        assert figure.chosen < figure.random.low <= figure.random.mean <= figure.random.high
    for name in ("neighbour_mean", "vendi", "topic_entropy"):
        figure = found.figures[name]
        assert figure.better == "higher" and figure.chosen is not None and figure.random
        assert figure.chosen > figure.random.high >= figure.random.mean >= figure.random.low
    assert found.figures["topic_entropy"].chosen == 1
    assert found.figures["vendi"].chosen == pytest.approx(12, abs=0.5)


def test_before_is_the_value_of_all_records() -> None:
    """Scores and lengths are told for the choice, for chance, and for all records."""
    given = pool(200)
    best = np.argsort(-given.scores)[:20]
    found = compare(given, best, 0).figures
    assert found["score_mean"].before == pytest.approx(given.scores.mean(), abs=1e-6)
    assert found["chars_mean"].before == pytest.approx(given.chars.mean(), abs=1e-6)
    score, drawn = found["score_mean"].chosen, found["score_mean"].random
    assert score is not None and drawn is not None and score > drawn.high
    assert [name for name, figure in found.items() if figure.before is not None] == ["score_mean", "chars_mean"]
    assert {name: figure.better for name, figure in found.items()} == BETTER


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n", "size", "kinds"), [(1, 1, None), (2, 1, None), (9, 9, None), (9, 3, 1), (9, 9, 1)])
def test_the_smallest_sets_give_plain_numbers(n: int, size: int, kinds: int | None) -> None:
    """One record, all records chosen, all the same: JSON without NaN, nulls where a figure means nothing."""
    given = pool(n, kinds=kinds)
    plain = compare(given, np.arange(size), 0).plain()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    figures = plain["figures"]
    assert (figures["neighbour_mean"]["chosen"] is None) == (size == 1)
    assert (figures["neighbour_mean"]["random"] is None) == (size == 1)
    assert (figures["topic_entropy"]["chosen"] is None) == (n == 1)
    if size == n or kinds:
        assert figures["coverage_worst"]["chosen"] == 0
        assert figures["coverage_mean"]["random"] == {"mean": 0, "low": 0, "high": 0}
    if kinds:
        assert figures["vendi"]["chosen"] == pytest.approx(1, abs=1e-4)


def test_chance_depends_on_the_seed_alone() -> None:
    """The same seed, the same choices; another, others; none has a record twice."""
    first = random_sets(50, 20, 1)
    assert all(len(set(rows.tolist())) == 20 for rows in first) and len(first) == DRAWS
    assert [r.tolist() for r in first] == [r.tolist() for r in random_sets(50, 20, 1)]
    assert [r.tolist() for r in first] != [r.tolist() for r in random_sets(50, 20, 2)]
    assert len({tuple(rows) for rows in first}) == DRAWS


def test_large_sets_are_looked_at_through_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison says of how many records, and the sample's figures are near those of all."""
    given = pool(4000, dimensions=3)
    rows = np.arange(0, 4000, 20)
    whole = compare(given, rows, 0)
    monkeypatch.setattr(diversity, "LOOKED_AT", 500)
    part = compare(given, rows, 0)
    assert (whole.looked_at, part.looked_at) == (4000, 500)
    exact, sampled = (c.figures["coverage_mean"].chosen for c in (whole, part))
    assert exact is not None and sampled == pytest.approx(exact, rel=0.15) and sampled != exact
    monkeypatch.undo()
    monkeypatch.setattr(diversity, "PAIRS", 200 * 1500)
    assert compare(given, rows, 0).looked_at == 1500
    monkeypatch.setattr(diversity, "PAIRS", 1)
    assert compare(given, rows, 0).looked_at == diversity.FEWEST


def test_vectors_may_stay_in_a_file(tmp_path: Path) -> None:
    """Mapped from a file, read-only, they give the same figures."""
    given = pool(300)
    np.save(tmp_path / "v.npy", given.vectors)
    mapped = given._replace(vectors=np.load(tmp_path / "v.npy", mmap_mode="r"))
    rows = np.arange(0, 300, 10)
    assert compare(mapped, rows, 5) == compare(given, rows, 5)
