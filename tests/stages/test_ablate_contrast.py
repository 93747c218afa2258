"""Intervals over students and prompts: by hand, in known worlds, and whatever the scores are."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ablation.contrast import estimate
from stages.bootstrap import Column, Score

value = st.floats(-50, 50, allow_nan=False, width=32)


def column(*values: float | None, weights: Sequence[float] = ()) -> Column:
    """Scores of one student."""
    return [None if v is None else Score(v, weights[n] if weights else 1.0) for n, v in enumerate(values)]


def arms(students: int = 3, prompts: int = 4) -> st.SearchStrategy[list[Column]]:
    """Students of one arm."""
    rows = st.lists(value, min_size=prompts, max_size=prompts).map(lambda vs: column(*vs))
    return st.lists(rows, min_size=students, max_size=students)


def test_prompts_alone_are_a_paired_t_test() -> None:
    """With one student an arm, the interval is that of the differences, prompt by prompt."""
    from scipy.stats import t  # type: ignore[import-untyped]

    one, other = [1.0, 2.0, 4.0, 3.0], [0.5, 2.5, 2.0, 2.0]
    differences = [a - b for a, b in zip(one, other, strict=True)]
    mean = sum(differences) / 4
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / 3 / 4)
    found = estimate([[column(*one)], [column(*other)]])
    assert found is not None and found.low is not None and found.high is not None
    assert found.value == pytest.approx(0.75)
    assert found.high - found.value == pytest.approx(t.ppf(0.975, 3) * error)
    assert found.value - found.low == pytest.approx(found.high - found.value)
    assert found.n == 4


def test_students_alone_are_a_welch_test() -> None:
    """With one prompt, the interval is that of two groups of students with variances of their own."""
    from scipy.stats import ttest_ind

    one, other = [1.0, 2.0, 4.0], [0.0, 0.5, 1.0, 0.2]
    found = estimate([[column(v) for v in one], [column(v) for v in other]])
    theirs = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert found is not None
    assert found.low == pytest.approx(theirs.low) and found.high == pytest.approx(theirs.high)


def test_hard_prompts_widen_nothing() -> None:
    """What prompts do to both arms alike is not in the difference; in a single arm's mean it is."""
    hard = [0.0, 100.0, -50.0, 7.0]
    ours = [column(*(h + 1 + n / 100 for h in hard)) for n in range(3)]
    theirs = [column(*(h + n / 100 for h in hard)) for n in range(3)]
    found, alone = estimate([ours, theirs]), estimate([ours])
    assert found is not None and alone is not None and found.low is not None and found.high is not None
    assert found.value == pytest.approx(1.0)
    assert found.high - found.low < 0.1
    assert alone.low is not None and alone.high is not None and alone.high - alone.low > 50


def test_weights_count() -> None:
    """A mean over tokens: a long answer counts more; its weight is the same for every student here."""
    found = estimate([[column(1, 4, weights=(3, 1))], [column(0, 0, weights=(3, 1))]])
    assert found is not None and found.value == pytest.approx(7 / 4)


def test_only_prompts_that_everybody_has_count() -> None:
    found = estimate([[column(1, None, 3)], [column(0, 9, 1)]])
    assert found is not None and found.value == pytest.approx(1.5) and found.n == 2
    assert estimate([[column(None, 1)], [column(1, None)]]) is None
    assert estimate([[[]], [[]]]) is None


def test_nothing_to_tell_it_from() -> None:
    """One student and one prompt, or arms that are the same: a value without an interval."""
    for pair in ([[column(2)], [column(1)]], [[column(1, 2), column(1, 2)], [column(1, 2), column(1, 2)]]):
        found = estimate(pair)
        assert found is not None and found.low is None and found.high is None
    assert estimate([[column(math.inf, 1)], [column(0, 1)]]) is None


@pytest.mark.parametrize(
    ("students", "prompts", "of_student", "of_arm", "noise"),
    [(3, 20, 0, 0.5, 1), (3, 20, 0.5, 0.3, 1), (5, 60, 0.1, 0.5, 1), (2, 30, 0.5, 0, 0.3), (1, 30, 0, 0.5, 1)],
)
def test_it_holds_the_truth_as_often_as_it_says(
    students: int, prompts: int, of_student: float, of_arm: float, noise: float
) -> None:
    """In worlds where the arms are the same, 95 % of the intervals hold zero; more where there is little to go by."""
    random = np.random.default_rng(0)
    worlds, holds = 300, 0
    for _ in range(worlds):
        hard = random.normal(0, 1, prompts)
        sides = []
        for _arm in range(2):
            taste = random.normal(0, of_arm, prompts)
            scores = [
                hard + taste + random.normal(0, of_student) + random.normal(0, noise, prompts) for _ in range(students)
            ]
            sides.append([column(*row) for row in scores])
        found = estimate(sides)
        assert found is not None and found.low is not None and found.high is not None
        holds += found.low <= 0 <= found.high
    assert holds / worlds > 0.92
    if students > 2 and of_student:
        assert holds / worlds < 0.999, "an interval that holds everything shows nothing"


@given(arms(), arms(2))
def test_the_other_way_round_is_the_opposite(one: list[Column], other: list[Column]) -> None:
    found, back = estimate([one, other]), estimate([other, one])
    assert found is not None and back is not None
    assert found.value == -back.value and (found.low is None) == (back.low is None)
    if found.low is not None and back.high is not None:
        assert found.low == pytest.approx(-back.high, rel=1e-6, abs=1e-9)
        assert found.low <= found.value


@given(arms(), arms(), st.floats(0.1, 10), value)
def test_another_scale_is_another_scale(one: list[Column], other: list[Column], by: float, plus: float) -> None:
    """Scores that are stretched and moved stretch the difference."""

    def moved(arm: list[Column]) -> list[Column]:
        return [[score and Score(score.value * by + plus, score.weight) for score in students] for students in arm]

    found, after = estimate([one, other]), estimate([moved(one), moved(other)])
    assert found is not None and after is not None
    assert after.value == pytest.approx(found.value * by, rel=1e-6, abs=1e-6)
    if found.low is not None and after.low is not None:
        assert after.low == pytest.approx(found.low * by, rel=1e-4, abs=1e-4)
