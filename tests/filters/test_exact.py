"""Exact: the same answer a second time."""

import unicodedata

from filters.exact import Exact
from tests.helpers import Nobody, records


def test_the_first_is_kept_and_named() -> None:
    """Every later copy is dropped, and its reason names the record that was kept."""
    checks = list(Exact().sift(records("fox", "bear", "fox", "fox"), Nobody()))
    assert [c.passed for c in checks] == [True, True, False, False]
    assert [c.detail for c in checks if not c.passed] == ["duplicate of r0", "duplicate of r0"]
    assert {c.reason for c in checks if not c.passed} == {"duplicate"}


def test_case_spacing_and_unicode_form_do_not_matter() -> None:
    """Answers that a reader cannot tell apart are equal."""
    korean = "토끼가 왔어요."
    same = ["The Fox.", "the  fox.\n", korean, unicodedata.normalize("NFD", f" {korean} ")]
    assert [c.passed for c in Exact().sift(records(*same), Nobody())] == [True, False, True, False]


def test_what_a_reader_can_tell_apart_differs() -> None:
    """One letter, or one mark, makes another answer."""
    different = ["토끼가 왔어요.", "토끼가 갔어요.", "토끼가 왔어요!", "토끼 가 왔어요."]
    assert all(c.passed for c in Exact().sift(records(*different), Nobody()))


def test_a_second_run_starts_afresh() -> None:
    """The component remembers nothing between runs."""
    rule = Exact()
    assert [all(c.passed for c in rule.sift(records("fox"), Nobody())) for _ in range(2)] == [True, True]
