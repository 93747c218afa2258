"""Script: which script the letters belong to."""

import pytest
from pydantic import ValidationError

from filters.script import Script
from tests.helpers import record


def test_korean_and_english_are_told_apart() -> None:
    """Hangul wants Korean, Latin wants English."""
    assert Script(script="Hangul").judge(record("토끼가 왔어요.")).value == 1
    assert Script(script="Hangul").judge(record("A rabbit came.")).reason == "wrong_script"
    assert Script(script="Latin").judge(record("A rabbit came.")).passed
    assert Script(script="Latin").judge(record("토끼가 왔어요.")).reason == "wrong_script"


def test_only_letters_count() -> None:
    """Digits, marks, spaces and emoji are on nobody's side."""
    assert Script(script="Hangul", min_share=1).judge(record("토끼 3마리!! 🐰 -- 12:30")).value == 1


def test_the_share_is_measured() -> None:
    """Half of the letters in Hangul is a share of one half, and the bound itself passes."""
    check = Script(script="Hangul", min_share=0.5).judge(record("가나 ab"))
    assert (check.passed, check.value) == (True, 0.5)
    check = Script(script="Hangul", min_share=0.51).judge(record("가나 ab"))
    assert (check.passed, check.detail) == (False, "50% Hangul, under 51%")


@pytest.mark.parametrize("text", ["", "123 !?", "🐰🐻🦊"])
def test_no_letters_is_a_reason_of_its_own(text: str) -> None:
    """An answer without letters has no script."""
    assert Script().judge(record(text)).reason == "no_letters"


@pytest.mark.parametrize("name", ["Hangeul", "Korean", "", "Latin}|\\p{Greek", "."])
def test_an_unknown_script_is_refused(name: str) -> None:
    """A misspelt script fails when the plan is read, not when the first record comes."""
    with pytest.raises(ValidationError, match="is no Unicode script"):
        Script(script=name)
