"""Intervals: they hold the truth about as often as they say, pair what belongs together, and admit ignorance."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.bootstrap import Column, Score, apart, interval, mean, share

numbers = st.floats(-100, 100).map(lambda x: round(x, 3))
scores = st.lists(st.none() | st.builds(Score, numbers, st.floats(0.5, 50)), min_size=1, max_size=12)


def column(*values: float | None) -> list[Score | None]:
    return [None if value is None else Score(value) for value in values]


@given(scores)
@settings(max_examples=40, deadline=None)
def test_the_value_is_the_weighted_mean_and_lies_within_its_ends(given: Column) -> None:
    found, expected = interval([given], lambda m: m, seed=1), mean(given)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(expected)
    assert found.n == sum(score is not None for score in given)
    if found.low is not None and found.high is not None:
        values = [score.value for score in given if score is not None]
        slack = 1e-6
        assert min(values) - slack <= found.low <= found.high <= max(values) + slack


def test_the_interval_holds_the_truth_in_about_95_of_100_samples() -> None:
    """200 samples of 40: fewer than 175 or all 200 would be another interval than the one that is claimed."""
    random_ = random.Random(5)
    held = 0
    for trial in range(200):
        found = interval([column(*(random_.gauss(3, 2) for _ in range(40)))], lambda m: m, seed=trial)
        assert found is not None and found.low is not None and found.high is not None
        held += found.low <= 3 <= found.high
    assert 175 <= held < 200


def test_the_normal_approximation_agrees() -> None:
    random_ = random.Random(1)
    values = [random_.gauss(0, 1) for _ in range(400)]
    found = interval([column(*values)], lambda m: m, seed=0)
    assert found is not None and found.low is not None and found.high is not None
    spread = math.sqrt(sum((v - sum(values) / 400) ** 2 for v in values) / 400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread / 20, rel=0.08)


def test_a_difference_is_paired() -> None:
    """Models that differ by the same on every prompt differ for certain, however unlike the prompts are."""
    one = column(*(float(n * n) for n in range(20)))
    other = column(*(n * n + 1 + n % 2 / 10 for n in range(20)))
    found = interval([one, other], lambda a, b: b - a, seed=0)
    assert found is not None and found.low is not None and found.high is not None
    assert 1 <= found.low <= found.value <= found.high <= 1.1
    loose = apart(one, other, lambda a, b: b - a, seed=0)
    assert loose is not None and loose.low is not None and loose.high is not None
    assert loose.low < 0 < loose.high


def test_only_prompts_that_all_columns_have_count() -> None:
    found = interval([column(1, 2, None, 4), column(2, None, 9, 6)], lambda a, b: b - a, seed=0)
    assert found is not None
    assert (found.value, found.n) == (1.5, 2)


def test_nothing_is_claimed_of_one_prompt_or_of_values_all_alike() -> None:
    assert interval([column(None, None)], lambda m: m, seed=0) is None
    for alike in (column(4), column(0.3, 0.3, 0.3)):
        found = interval([alike], lambda m: m, seed=0)
        assert found is not None and found.low is None and found.high is None
    assert share([column(None)], lambda m: m > 0, seed=0) == 0


def test_the_seed_decides() -> None:
    given = column(*(math.sqrt(n) for n in range(30)))
    assert interval([given], lambda m: m, seed=1) == interval([given], lambda m: m, seed=1)
    assert interval([given], lambda m: m, seed=1) != interval([given], lambda m: m, seed=2)


def test_many_prompts_are_drawn_in_blocks() -> None:
    """Blocks of draws are as good as one: the ends stay where a larger sample puts them."""
    given = column(*(float(n % 10) for n in range(20_000)))
    found = interval([given], lambda m: m, seed=3)
    assert found is not None and found.low is not None and found.high is not None
    assert found.value == 4.5 and found.high - found.low == pytest.approx(2 * 1.96 * 2.872 / math.sqrt(20_000), rel=0.1)
