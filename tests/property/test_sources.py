"""Draws from a grid, and the split: growing a draw never changes what was drawn before."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.records import Seed
from stages.sources.base import Source
from stages.sources.grid import Choose, Grid

AXES = st.dictionaries(
    st.text("abc", min_size=1, max_size=2),
    st.lists(st.integers(0, 99) | st.text(max_size=3), min_size=1, max_size=4, unique_by=repr),
    min_size=1,
    max_size=3,
)
SEED = st.integers(0, 2**31)


def grid(axes: dict[str, Any], count: int | None = None) -> Grid:
    return Grid.model_validate({"axes": axes, "count": count})


def total(axes: dict[str, Any]) -> int:
    return sum(1 for _ in grid(axes).rows(0))


@given(AXES, SEED, st.data())
def test_a_larger_count_keeps_the_smaller_draw(axes: dict[str, Any], seed: int, data: st.DataObject) -> None:
    """The first n of a draw of m are the draw of n, to the last field, id and side of the split."""
    large = data.draw(st.integers(1, total(axes)))
    small = data.draw(st.integers(1, large))
    many = list(grid(axes, large).seeds(seed, 0.3))
    assert len(many) == large
    assert many[:small] == list(grid(axes, small).seeds(seed, 0.3))


@given(AXES, SEED)
def test_a_draw_never_repeats(axes: dict[str, Any], seed: int) -> None:
    """Drawing as many as there are gives every combination once, and every seed its own id."""
    count = total(axes)
    drawn = list(grid(axes, count).seeds(seed, 0))
    assert sorted(repr(s.fields) for s in drawn) == sorted(repr(s.fields) for s in grid(axes).seeds(seed, 0))
    assert len({s.id for s in drawn}) == len({repr(s.fields) for s in drawn}) == count


@given(st.integers(1, 4), st.integers(4, 6))
def test_choose_gives_every_combination_once(choose: int, items: int) -> None:
    """Choosing k of n is all subsets of size k, in the list's order."""
    axes = {"k": Choose.model_validate({"choose": choose, "from": list(range(items))})}
    found = [tuple(fields["k"]) for fields, _ in grid(axes).rows(0)]
    assert len(found) == len(set(found)) == math.comb(items, choose)
    assert all(list(f) == sorted(set(f)) and len(f) == choose for f in found)


class Fixed(Source):
    """A source of rows given by the test."""

    given: list[dict[str, Any]]

    def fields(self) -> set[str]:
        """The keys of the first row."""
        return set(self.given[0])

    def rows(self, seed: int) -> Any:
        """The rows as they are."""
        return ((row, f"row {n}") for n, row in enumerate(self.given))


ROWS = st.lists(st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.text(max_size=2)}), min_size=1, max_size=12)


@given(ROWS, ROWS, SEED, st.floats(0, 1, exclude_max=True))
def test_the_split_is_by_content(
    rows: list[dict[str, Any]], more: list[dict[str, Any]], seed: int, heldout: float
) -> None:
    """Equal rows fall on one side, ids differ all the same, and rows added later move nobody."""
    seeds = list(Fixed(given=rows + more).seeds(seed, heldout))
    sides: dict[str, set[str]] = {}
    for one in seeds:
        sides.setdefault(repr(sorted(one.fields.items())), set()).add(one.split)
    assert all(len(side) == 1 for side in sides.values())
    assert len({s.id for s in seeds}) == len(seeds)
    assert seeds[: len(rows)] == list(Fixed(given=rows).seeds(seed, heldout))


@given(SEED, st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_larger_share_only_adds(seed: int, one: float, other: float) -> None:
    """What is held out at a small share stays held out at a larger one."""
    source = Fixed(given=[{"n": n} for n in range(50)])

    def held(share: float) -> set[str]:
        return {s.id for s in source.seeds(seed, share) if s.split == "heldout"}

    assert held(min(one, other)) <= held(max(one, other))


def test_the_share_is_about_right() -> None:
    """Of 4,000 seeds a tenth is held out, give or take a fifth of it; at 0 none is."""
    source = Fixed(given=[{"n": n} for n in range(4000)])
    held = sum(s.split == "heldout" for s in source.seeds(7, 0.1))
    assert 320 <= held <= 480
    assert not any(s.split == "heldout" for s in source.seeds(7, 0))


def test_a_seed_changes_draw_and_split() -> None:
    """Another seed of the plan draws other combinations and splits them otherwise."""
    wide = grid({"n": list(range(1000))}, 50)

    def drawn(seed: int) -> list[Seed]:
        return list(wide.seeds(seed, 0.5))

    assert drawn(1) == drawn(1)
    assert {s.id for s in drawn(1)} != {s.id for s in drawn(2)}
    sides = {s.id: s.split for s in grid({"n": list(range(40))}).seeds(1, 0.5)}
    assert sides != {s.id: s.split for s in grid({"n": list(range(40))}).seeds(2, 0.5)}


@pytest.mark.parametrize(
    ("axes", "count", "message"),
    [
        ({"a": [1, 2], "b": [1]}, 3, "count is 3, but the grid has only 2 combinations"),
        ({"a": []}, None, "axis a has no values"),
        ({"a": {"choose": 3, "from": [1, 2]}}, None, "cannot choose 3 of 2"),
        ({}, None, "at least 1 item"),
        ({"a": {"weights": {"x": 1}}}, None, "say how many with `count`"),
        ({"a": {"weights": {"x": 0}}}, 1, "greater than 0"),
        ({"a": ["x"], "b": {"given": "aa", "when": {"x": [1]}}}, None, "no axis before it.*did you mean a"),
        ({"b": {"given": "a", "when": {"x": [1]}}, "a": ["x"]}, None, "no axis before it"),
        ({"a": ["x", "y"], "b": {"given": "a", "when": {"x": [1]}}}, None, "no values when a is 'y'"),
        ({"a": ["x"], "b": {"given": "a", "when": {"z": [1]}, "otherwise": [2]}}, None, "a is never 'z'"),
    ],
)
def test_an_impossible_grid_is_refused(axes: dict[str, Any], count: int | None, message: str) -> None:
    """A grid that cannot give what is asked fails when the plan is read."""
    with pytest.raises(ValidationError, match=message):
        grid(axes, count)


PERSONAS = {
    "persona": {"weights": {"child": 3, "expert": 1}},
    "topic": {"given": "persona", "when": {"expert": ["bridges", "engines"]}, "otherwise": ["moon", "cats", "rain"]},
    "n": list(range(400)),
}


def test_weights_and_conditions_shape_a_draw() -> None:
    """Three of four draws are the heavier value, and a conditioned axis takes the values of its condition."""
    rows = [fields for fields, _ in grid(PERSONAS, 1200).rows(5)]
    assert 0.7 <= sum(r["persona"] == "child" for r in rows) / 1200 <= 0.8
    assert {(r["persona"], r["topic"]) for r in rows} == {
        ("child", "moon"), ("child", "cats"), ("child", "rain"), ("expert", "bridges"), ("expert", "engines"),
    }  # fmt: skip
    assert max(Counter(map(repr, rows)).values()) == 1


@given(SEED, st.integers(1, 60), st.integers(1, 60))
def test_a_weighted_draw_grows_at_its_end(seed: int, a: int, b: int) -> None:
    """Weights and conditions keep the promise that a larger count keeps the smaller draw."""
    few, many = sorted((a, b))
    assert list(grid(PERSONAS, many).rows(seed))[:few] == list(grid(PERSONAS, few).rows(seed))


def test_all_of_a_conditioned_grid() -> None:
    """Without `count` every possible combination comes once; the count of them is known."""
    axes = {"a": ["x", "y"], "b": {"given": "a", "when": {"x": [1, 2]}, "otherwise": [3]}, "c": [0, 1]}
    rows = [tuple(fields.values()) for fields, _ in grid(axes).rows(0)]
    assert rows == [("x", 1, 0), ("x", 1, 1), ("x", 2, 0), ("x", 2, 1), ("y", 3, 0), ("y", 3, 1)]
    assert len(list(grid(axes, 6).rows(1))) == 6
    with pytest.raises(ValidationError, match="only 6 combinations"):
        grid(axes, 7)


def test_a_weighted_grid_says_when_nothing_new_comes() -> None:
    """A value that is next to never drawn ends with a message, not with an endless search."""
    axes = {"a": {"weights": {"x": 1, "y": 1e-12}}}
    with pytest.raises(UsageError, match="1 of 2 combinations and nothing new"):
        list(grid(axes, 2).rows(0))
