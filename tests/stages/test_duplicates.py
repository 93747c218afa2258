"""Near-duplicates by meaning: the best of a group stays, and whoever goes names one that stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages import duplicates as module
from stages.duplicates import duplicates


def vectors(seed: int, n: int, dimensions: int, *, spread: float = 0.5) -> NDArray[np.float32]:
    """Unit vectors in loose groups, some of them twice."""
    source = np.random.default_rng(seed)
    groups = source.normal(size=(max(1, n // 4), dimensions))
    found = groups[source.integers(0, len(groups), n)] + source.normal(scale=spread, size=(n, dimensions))
    found[n // 2 : n // 2 + n // 10] = found[: n // 10]
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    monkeypatch.setattr(module, "KEPT", 24)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 99),
    n=st.integers(1, 150),
    dimensions=st.sampled_from([3, 16, 200]),
    least=st.sampled_from([0.3, 0.7, 0.9, 0.99]),
    ties=st.booleans(),
)
def test_one_of_a_group_stays(seed: int, n: int, dimensions: int, least: float, ties: bool) -> None:
    """No two that stay are near, whoever goes is near to a better one that stays: by comparing all pairs."""
    found = vectors(seed, n, dimensions)
    scores = np.asarray(np.random.default_rng(seed).integers(0, 3, n) if ties else np.arange(n) % 7, np.float64)
    gone = duplicates(found, scores, least)
    cosines = found @ found.T
    staying = [i for i in range(n) if i not in gone]
    among = cosines[np.ix_(staying, staying)]
    assert (among - 2 * np.eye(len(staying)) < least + 1e-5).all()
    for row, (keeper, cosine) in gone.items():
        assert keeper not in gone
        assert cosine == pytest.approx(cosines[row, keeper], abs=1e-5) and cosine >= least - 1e-5
        assert (-scores[keeper], keeper) < (-scores[row], row)


@pytest.mark.parametrize("dimensions", [8, 300])
def test_the_order_of_rows_does_not_matter(dimensions: int) -> None:
    """Shuffled rows with scores that differ give the same pairs."""
    found, scores = vectors(3, 120, dimensions), np.random.default_rng(0).permutation(120).astype(float)
    order = np.random.default_rng(1).permutation(120)
    plain = duplicates(found, scores, 0.8)
    shuffled = duplicates(found[order], scores[order], 0.8)
    assert len(plain) > 10
    assert {int(order[i]) for i in shuffled} == set(plain)


def test_the_best_of_a_pair_stays() -> None:
    """Of two that say the same the better one; of equals the first."""
    same = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    assert {row: d.keeper for row, d in duplicates(same, np.array([1.0, 5, 2, 2]), 0.95).items()} == {0: 1, 3: 2}


def test_all_the_same() -> None:
    """One of a hundred stays."""
    assert len(duplicates(np.full((100, 4), 0.5, np.float32), np.zeros(100), 1.0)) == 99


def test_rows_that_are_not_asked_about() -> None:
    """Rows left out of `among` neither go nor keep anyone."""
    same = np.array([[1, 0], [np.nan, 0], [1, 0], [1, 0]], np.float32)
    gone = duplicates(same, np.array([9.0, 9, 1, 2]), 0.9, np.array([2, 3]))
    assert {row: d.keeper for row, d in gone.items()} == {2: 3}
