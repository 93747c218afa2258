"""Sampling that varies from request to request."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.engines import Sampling
from stages.sampling import VariedSampling


def test_plain_numbers_stay_as_they_are() -> None:
    """Without a list or a range every request has the stage's own sampling."""
    stage = VariedSampling(temperature=0.7, top_p=0.9, max_tokens=7, stop=("x",), top_logprobs=5)
    assert stage.draw(random.Random(0), 3) == Sampling(temperature=0.7, top_p=0.9, max_tokens=7, stop=("x",))


def test_samples_walk_through_a_list() -> None:
    """As many samples of one seed as the list is long have each of its values once."""
    stage = VariedSampling(temperature=[0.2, 0.7, 1.1])
    drawn = [stage.draw(random.Random("seed"), sample).temperature for sample in range(6)]
    assert sorted(drawn[:3]) == [0.2, 0.7, 1.1] and drawn[:3] == drawn[3:]
    assert {stage.draw(random.Random(n), 0).temperature for n in range(20)} == {0.2, 0.7, 1.1}


@given(st.integers(0, 1000), st.integers(0, 5))
def test_a_range_stays_within_its_ends(seed: int, sample: int) -> None:
    """What is drawn lies between the ends, and is the same for the same request."""
    stage = VariedSampling.model_validate({"temperature": {"from": 0.5, "to": 1.2}, "top_p": {"from": 0.8, "to": 1}})
    drawn = stage.draw(random.Random(seed), sample)
    assert 0.5 <= drawn.temperature <= 1.2 and 0.8 <= drawn.top_p <= 1
    assert drawn == stage.draw(random.Random(seed), sample)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": [0.5, -1]}, "greater than or equal to 0"),
        ({"temperature": []}, "at least 1 item"),
        ({"temperature": {"from": 2, "to": 1}}, "from 2 is above to 1"),
        ({"top_p": {"from": 0.5, "to": 1.5}}, "less than or equal to 1"),
    ],
)
def test_values_no_engine_takes_are_refused(settings: dict[str, Any], message: str) -> None:
    """Every value of a list and both ends of a range are checked when the plan is read."""
    with pytest.raises(ValidationError, match=message):
        VariedSampling.model_validate(settings)
