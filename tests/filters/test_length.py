"""Length: characters between two bounds."""

import unicodedata

import pytest
from pydantic import ValidationError

from filters.length import Length
from tests.helpers import record


def test_bounds_are_inclusive() -> None:
    """An answer exactly at a bound passes; one character more or less does not."""
    rule = Length(min_chars=3, max_chars=5)
    verdicts = {n: rule.judge(record("x" * n)).reason for n in (2, 3, 5, 6)}
    assert verdicts == {2: "too_short", 3: "", 5: "", 6: "too_long"}


def test_the_number_is_reported() -> None:
    """The check carries the measured length, passed or not, and says the bound it missed."""
    check = Length(min_chars=10).judge(record("four"))
    assert (check.value, check.detail) == (4, "4 characters, under 10")
    assert Length().judge(record("four")).value == 4


def test_a_hangul_syllable_is_one_character() -> None:
    """Korean counts by syllables, whether they come composed or as separate jamo."""
    text = "토끼가 달을 보았어요."
    decomposed = unicodedata.normalize("NFD", text)
    assert len(decomposed) > len(text)
    assert Length().judge(record(decomposed)).value == Length().judge(record(text)).value == 12


def test_white_space_at_the_ends_does_not_count() -> None:
    """Padding cannot carry an answer over the bound."""
    assert Length(min_chars=5).judge(record("  fox \n\n")).reason == "too_short"


def test_no_upper_bound_by_default() -> None:
    """Without `max_chars` an answer of any size passes."""
    assert Length().judge(record("가" * 100_000)).passed


def test_crossed_bounds_are_refused() -> None:
    """`max_chars` below `min_chars` would drop everything, so the plan does not load."""
    with pytest.raises(ValidationError, match="max_chars is 5, below min_chars 10"):
        Length(min_chars=10, max_chars=5)
