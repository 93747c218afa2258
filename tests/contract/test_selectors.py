"""What holds for every selector: exactly so many, always the same ones, whatever the order and however alike."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.component import Component, kind_of
from stages.selectors.base import Candidates, Choice
from tests.contract.families import example, of

each = pytest.mark.parametrize("component", of("selector"), ids=kind_of)


def candidates(n: int, *, vectors: str = "spread", scores: str = "spread", seed: int = 0, width: int = 8) -> Candidates:
    """N candidates in ascending order of id; in three groups, and with features of their own."""
    source = np.random.default_rng(seed)
    found = {
        "spread": lambda: source.normal(size=(n, width)),
        "twins": lambda: source.normal(size=(3, width))[source.integers(3, size=n)],
        "same": lambda: np.ones((n, width)),
    }[vectors]()
    unit = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    marks = {
        "spread": lambda: source.uniform(1, 5, size=n),
        "few": lambda: source.integers(1, 3, size=n).astype(float),
        "same": lambda: np.full(n, 3.0),
    }[scores]()
    features = np.ones((n, 5), np.float32) if vectors == "same" else source.normal(size=(n, 5)).astype(np.float32)
    return Candidates([f"id{i:03d}" for i in range(n)], unit, marks, [f"group{i % 3}" for i in range(n)], features)


def pick(component: type[Component], folder: Path, among: Candidates, keep: int, seed: int = 7) -> list[Choice]:
    """The choices, after a look at what holds for all."""
    choices: list[Choice] = example(component, folder).pick(among, keep, seed)
    assert len(choices) == len(among.ids)
    assert sorted(c.rank for c in choices if c.chosen) == list(range(1, min(keep, len(among.ids)) + 1))
    for choice in choices:
        assert type(choice.rank) is int  # numpy's own cannot be written as JSON
        assert (choice.reason == "") == choice.chosen
        assert choice.chosen or choice.reason.replace("_", "").islower()
        assert "nan" not in choice.detail and "inf" not in choice.detail
    return choices


@each
@pytest.mark.parametrize(("n", "keep"), [(1, 1), (1, 5), (2, 1), (30, 1), (30, 7), (30, 29), (30, 30), (30, 99)])
def test_exactly_as_many_as_wanted(component: type[Component], tmp_path: Path, n: int, keep: int) -> None:
    """min(keep, N) are chosen, ranked from 1 on; the others are told why by a slug."""
    pick(component, tmp_path, candidates(n), keep)


@each
@pytest.mark.parametrize("vectors", ["same", "spread", "twins"])
@pytest.mark.parametrize("scores", ["same", "spread"])
@pytest.mark.filterwarnings("error")
def test_identical_candidates_work(component: type[Component], tmp_path: Path, vectors: str, scores: str) -> None:
    """Equal vectors and equal scores still give exactly so many, without a warning."""
    pick(component, tmp_path, candidates(12, vectors=vectors, scores=scores), 5)


@each
@pytest.mark.filterwarnings("error")
def test_ties_go_to_the_smaller_id(component: type[Component], tmp_path: Path) -> None:
    """Of records that are all the same the first are chosen; but by `random`, which draws."""
    choices = pick(component, tmp_path, candidates(100, vectors="same", scores="same", width=200), 30)
    assert kind_of(component) == "random" or all(choice.chosen for choice in choices[:30])


shapes = st.fixed_dictionaries(
    {
        "n": st.integers(1, 40),
        "width": st.integers(1, 12),
        "vectors": st.sampled_from(["spread", "twins", "same"]),
        "scores": st.sampled_from(["spread", "few", "same"]),
        "seed": st.integers(0, 99),
    }
)


@each
@pytest.mark.filterwarnings("error")
@settings(max_examples=25)
@given(shape=shapes, keep=st.integers(1, 45))
def test_any_shape_works(component: type[Component], tmp_path: Path, shape: dict[str, Any], keep: int) -> None:
    """Few or many, of one dimension or twelve, with twins among them."""
    pick(component, tmp_path, candidates(**shape), keep, shape["seed"])


@each
def test_the_same_pick_again(component: type[Component], tmp_path: Path) -> None:
    """Same candidates, same seed, same choices."""
    assert pick(component, tmp_path, candidates(40), 9) == pick(component, tmp_path, candidates(40), 9)


@each
@pytest.mark.parametrize("vectors", ["spread", "twins"])
def test_the_order_of_rows_does_not_matter(component: type[Component], tmp_path: Path, vectors: str) -> None:
    """Rows in any order, sorted by id as the stage does, give the same pick."""
    among = candidates(40, vectors=vectors)
    rows = list(zip(*among, strict=True))
    random.Random(1).shuffle(rows)
    assert [row[0] for row in rows] != among.ids
    rows.sort(key=lambda row: row[0])
    ids, unit, marks, labels, features = zip(*rows, strict=True)
    again = Candidates(list(ids), np.stack(unit), np.asarray(marks), list(labels), np.stack(features))
    assert pick(component, tmp_path, again, 9) == pick(component, tmp_path, among, 9)


@each
@pytest.mark.parametrize("keep", [9, 40])
def test_vectors_in_a_file_will_do(component: type[Component], tmp_path: Path, keep: int) -> None:
    """Vectors and features that are mapped into memory, and cannot be written, are chosen from alike."""
    among = candidates(40)

    def mapped(name: str, rows: Any) -> Any:
        np.save(tmp_path / name, rows)
        return np.load(tmp_path / name, mmap_mode="r")

    on_disk = among._replace(vectors=mapped("v.npy", among.vectors), features=mapped("f.npy", among.features))
    assert isinstance(on_disk.vectors, np.memmap) and not on_disk.vectors.flags.writeable
    assert pick(component, tmp_path, on_disk, keep) == pick(component, tmp_path, among, keep)


@each
def test_candidates_are_left_as_they_were(component: type[Component], tmp_path: Path) -> None:
    """Nothing that a selector is given is written to."""
    among, untouched = candidates(20), candidates(20)
    pick(component, tmp_path, among, 6)
    same: Callable[[Any, Any], bool] = np.array_equal
    assert all(same(one, other) for one, other in zip(among, untouched, strict=True))
