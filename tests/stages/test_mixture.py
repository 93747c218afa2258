"""Quotas by a field: how many each group gets, who is chosen within it, and in which order."""

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.errors import PipelineError
from pipeline.records import Check, MadeBy, Record
from stages.gradients import Gradients
from stages.selectors.base import Candidates
from stages.selectors.mixture import Mixture, divide
from stages.selectors.top import Top
from tests.helpers import record
from tests.stages.chosen import among, ranked, unit


def groups(**sizes: int) -> Candidates:
    """Records of groups, interleaved; scores rise with the index."""
    labels = [name for name, size in sizes.items() for _ in range(size)]
    np.random.default_rng(0).shuffle(labels)
    vectors = unit(np.random.default_rng(1).normal(size=(len(labels), 4)))
    return among(vectors, np.arange(len(labels)))._replace(labels=labels)


def mixture(**settings: Any) -> Mixture:
    return Mixture.model_validate({"by": "task", "within": {"kind": "top"}} | settings)


def counts(selector: Mixture, candidates: Candidates, keep: int) -> dict[str, int]:
    chosen = ranked(selector.pick(candidates, keep, 0))
    assert len(chosen) == min(keep, len(candidates.ids))
    return dict(Counter(candidates.labels[i] for i in chosen))


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, {"a": 6, "b": 3, "c": 1}),  # as the whole is
        ({"others": "equal"}, {"a": 4, "b": 3, "c": 3}),
        ({"shares": {"a": 0.2, "b": 0.5, "c": 0.3}}, {"a": 2, "b": 5, "c": 3}),
        ({"shares": {"a": 1, "b": 4}}, {"a": 2, "b": 8}),  # weights: nothing is left for c
        ({"shares": {"b": 0.2}}, {"b": 2, "a": 7, "c": 1}),  # the rest by size, 60 to 10
        ({"shares": {"b": 0.2}, "others": "equal"}, {"b": 2, "a": 4, "c": 4}),
        ({"shares": {"b": 0.2}, "others": "none"}, {"b": 10}),
        ({"shares": {"a": 0.1, "b": 0.3}, "others": "none"}, {"a": 3, "b": 7}),  # 2.5 and 7.5: ties by name
        ({"shares": {"a": 0, "c": 0.5}, "others": "equal"}, {"c": 5, "b": 5}),
    ],
)
def test_shares(settings: dict[str, Any], wanted: dict[str, int]) -> None:
    """Ten of sixty, thirty and ten records."""
    assert counts(mixture(**settings), groups(a=60, b=30, c=10), 10) == wanted


@pytest.mark.parametrize(
    ("settings", "keep", "wanted"),
    [
        ({"shares": {"a": 1, "b": 2, "c": 3}}, 12, {"a": 3, "b": 5, "c": 4}),  # c has 4 of its 6: a and b 8 as 1 to 2
        ({"shares": {"c": 1}, "others": "none"}, 10, {"c": 4, "a": 4, "b": 2}),  # who has no share fills up by size
        ({"shares": {"b": 0.5, "c": 0.5}, "others": "none"}, 14, {"b": 10, "c": 4}),
        ({"shares": {"a": 0, "c": 0.5, "b": 0.5}}, 20, {"c": 4, "b": 10, "a": 6}),
        ({"others": "equal"}, 99, {"a": 20, "b": 10, "c": 4}),
    ],
)
def test_a_small_group_leaves_its_rest_to_the_others(
    settings: dict[str, Any], keep: int, wanted: dict[str, int]
) -> None:
    """Of twenty, ten and four records as many are chosen as were wanted."""
    assert counts(mixture(**settings), groups(a=20, b=10, c=4), keep) == wanted


sizes = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 30), min_size=1)


@given(sizes=sizes, keep=st.integers(0, 260), seed=st.integers(0, 999))
def test_quotas_add_up(sizes: dict[str, int], keep: int, seed: int) -> None:
    """Exactly `keep`, nobody over its size, within one of its part where all groups are large enough."""
    source = np.random.default_rng(seed)
    weights = {name: Fraction(int(source.integers(0, 5)), 7) for name in sizes}
    keep = min(keep, sum(sizes.values()))
    quotas = divide(keep, sizes, weights)
    assert sum(quotas.values()) == keep
    assert all(0 <= quotas[name] <= size for name, size in sizes.items())
    total = sum(weights.values())
    parts = {name: keep * weights[name] / total if total else Fraction(0) for name in sizes}
    if total and all(parts[name] <= size for name, size in sizes.items()):
        assert all(abs(quotas[name] - parts[name]) < 1 for name in sizes)
    for one in sizes:
        for other in sizes:  # nobody with more weight and room has less
            if weights[one] > weights[other] and quotas[one] < sizes[one]:
                assert quotas[one] + 1 >= quotas[other]


def test_the_selector_within_chooses() -> None:
    """In each group the best scores; ranks take turns as the quotas have it; reasons are those of within."""
    candidates = groups(a=20, b=20)
    choices = mixture(shares={"a": 2, "b": 1}).pick(candidates, 6, 0)
    best = {name: [i for i in range(39, -1, -1) if candidates.labels[i] == name] for name in "ab"}
    a, b = best["a"], best["b"]
    assert ranked(choices) == [a[0], b[0], a[1], a[2], b[1], a[3]]
    left = choices[a[4]]
    assert left.reason == "below_score"
    assert left.detail == f"group a; {a[4]}; the last one chosen has {a[3]}"
    alone = candidates._replace(
        ids=[candidates.ids[i] for i in a[::-1]], vectors=candidates.vectors[a[::-1]], scores=candidates.scores[a[::-1]]
    )
    assert [a[::-1][i] for i in ranked(Top().pick(alone, 4, 0))] == a[:4]


def test_a_group_without_a_quota_says_so() -> None:
    """Its records were not looked at."""
    candidates = groups(a=5, b=5)
    choices = mixture(shares={"a": 1}, others="none").pick(candidates, 3, 0)
    assert {(c.reason, c.detail) for c, name in zip(choices, candidates.labels, strict=True) if name == "b"} == {
        ("no_quota", "group b")
    }


def test_a_share_of_no_group_is_an_error() -> None:
    """It names the groups there are, not all where they are many."""
    with pytest.raises(PipelineError) as error:
        mixture(shares={"a": 1, "x": 2}).require({"a", "b"})
    assert "a share for x, but no record's `task` is that" in str(error.value)
    assert str(error.value).endswith("hint: groups there are: a, b")
    with pytest.raises(PipelineError, match=r"g18, g19 and 10 more$"):
        mixture(shares={"x": 2}).require({f"g{n:02d}" for n in range(30)})


def test_a_group_that_is_gone_leaves_its_quota() -> None:
    """All of a group may have been near-duplicates of others."""
    choices = mixture(shares={"a": 1, "x": 2}).pick(groups(a=3, b=2), 2, 0)
    assert [choice.rank > 0 for choice in choices].count(True) == 2


@pytest.mark.parametrize(
    ("by", "label"),
    [
        ("task", "respond"),
        ("model", "teacher-7b"),
        ("meta.topic", "sea"),
        ("meta.level", "3"),
        ("meta.a.b", "deep"),
        ("meta.none", "unknown"),
        ("judge", "4"),
        ("ifd", "0.25"),
        ("never_run", "unknown"),
    ],
)
def test_what_groups_a_record(by: str, label: str) -> None:
    """Its task, its model, its own fields, or what a check measured."""
    assert mixture(by=by).label(_row()) == label


def _row() -> Record:
    checks = [Check(name="judge", value=4), Check(name="ifd", value=0.25)]
    meta = {"topic": "sea", "level": 3, "a.b": "deep", "none": None}
    return record(task="respond", made_by=MadeBy(model="teacher-7b"), checks=checks, meta=meta)


def test_what_a_plan_cannot_say() -> None:
    """A field that no record has, a share under 0, nothing to choose from, a mixture of mixtures."""
    for settings in (
        {"by": "Task"},
        {"by": "meta."},
        {"shares": {"a": -1}},
        {"others": "none"},
        {"others": "none", "shares": {"a": 0}},
        {"within": {"kind": "mixture", "by": "task"}},
    ):
        with pytest.raises(ValidationError):
            mixture(**settings)


def test_it_compares_by_what_the_selector_within_does() -> None:
    """A selector within that has a space of its own is given that; the groups' features are its own rows."""
    gradients = mixture(within={"kind": "gradient", "model": "none"})
    assert mixture().space() is None and gradients.space() == Gradients(model="none")
    candidates = groups(a=30, b=10)
    features = np.random.default_rng(5).normal(size=(40, 6)).astype(np.float32)
    whole = candidates._replace(features=features)
    chosen = ranked(gradients.pick(whole, 12, 0))
    inside = [i for i in range(40) if candidates.labels[i] == "a"]
    far = [i for i in inside if i not in chosen]
    mean = features[inside].mean(axis=0)
    picked = features[[i for i in chosen if i in inside]].mean(axis=0)
    assert np.linalg.norm(picked - mean) < 0.5 * np.linalg.norm(features[far[:9]].mean(axis=0) - mean)
