"""Exact: the same text a second time."""

import unicodedata

import pytest

from filters.exact import Exact
from pipeline.errors import UsageError
from pipeline.records import Check, Record
from tests.helpers import Nobody, record, records


def scored(*scores: float) -> list[Record]:
    """Records of one answer with these values of the check `quality`."""
    return [record("fox", id=f"r{n}").checked(Check(name="quality", value=s)) for n, s in enumerate(scores)]


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


def test_what_is_compared_is_a_setting() -> None:
    """The answer, the prompt, or the two as a pair, wherever one ends and the other begins."""
    rows = [record(a, id=i, prompt=p) for i, p, a in (("a", "one", "fox"), ("b", "two", "fox"), ("c", "one", "bear"),
                                                     ("d", "one fox", ""), ("e", "ONE", "Fox"))]  # fmt: skip
    lost = {on: "".join(r.id for r, c in zip(rows, Exact(on=on).sift(rows, Nobody()), strict=True) if not c.passed)
            for on in ("answer", "prompt", "both")}  # fmt: skip
    assert lost == {"answer": "be", "prompt": "ce", "both": "e"}


def test_the_best_by_a_score_is_kept_and_the_first_of_equals() -> None:
    """`keep` takes the name of a check measured before."""
    checks = list(Exact(keep="quality").sift(scored(1, 3, 3, 2), Nobody()))
    assert [c.passed for c in checks] == [False, True, False, False]
    assert {c.detail for c in checks if not c.passed} == {"duplicate of r1"}


def test_the_longest_is_kept() -> None:
    """White space makes a longer text of the same words: here it stands for what normalisation takes away."""
    checks = Exact(keep="longest").sift(records("fox", "fox  ", "FOX"), Nobody())
    assert [c.passed for c in checks] == [False, True, False]


def test_a_score_nobody_has_is_refused() -> None:
    """A misspelt check is an error, not a silent choice of the first."""
    with pytest.raises(UsageError, match=r"exact\.keep is 'qualty', and no record has a check of that name"):
        list(Exact(keep="qualty").sift(scored(1, 2), Nobody()))


@pytest.mark.parametrize("keep", ["first", "quality"])
def test_a_dropped_record_stands_for_none(keep: str) -> None:
    """Where dropped records are measured, too, the live ones are judged as if they were not there."""
    gone = Check(name="before", passed=False, reason="gone")
    rows = [one.checked(gone) if n == 0 else one for n, one in enumerate(scored(9, 1, 2))]
    whole = list(Exact(keep=keep).sift(rows, Nobody()))
    assert whole[1:] == list(Exact(keep=keep).sift(rows[1:], Nobody()))
