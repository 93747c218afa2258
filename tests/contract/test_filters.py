"""What holds for every filter, whatever it measures."""

import math
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from filters.base import Filter, SetFilter
from pipeline.component import Component, kind_of
from pipeline.engines import Completion, Request
from pipeline.records import Check, Message, Record
from pipeline.store import Tally
from stages.filter import apply
from tests.contract.families import of, working
from tests.helpers import Oracle, record

CODE = "```python\ndef f(x: int) -> int:\n    return x * 2  # {{ not a template }}\n```"
SAID = [Completion(text="4"), Completion(text="1", logprobs={"1": -0.1}), Completion(text="?"), Completion(error="no")]


def mixed_bag(huge: int = 1) -> list[Record]:
    """Records of every odd sort; the last answers have `huge` times 20 kB."""
    answers = ["", "   \n", "\x00", "x", "🐰🐻‍❄️🦊" * 20, "토끼가 달을 보며 잠들었어요.", CODE, "A fox ran home.",
               "A fox ran home.", "A story. A story. A story.", unicodedata.normalize("NFD", "로봇이 왔다"),
               "\u202e\u200b\ufeff",
               "\r\n".join(["line"] * 50), "a " * 10_000 * huge, "가" * 7_000 * huge]  # fmt: skip
    bag = [record(answer, id=f"r{n}") for n, answer in enumerate(answers)]
    turns = [Message(role="user", content="Nobody answered.")]
    return [*bag, record(id="unanswered", messages=turns), record("No question.", id="unasked", prompt="")]


def context() -> Oracle:
    """A model that gives good, bad, unreadable and failed answers in turn."""
    turn = iter(range(10**6))
    return Oracle(lambda request: SAID[next(turn) % len(SAID)])


each = pytest.mark.parametrize("component", of("filter"), ids=kind_of)


@each
def test_every_record_is_judged_once_in_order(component: type[Component], tmp_path: Path) -> None:
    """Any record gets exactly one verdict, in the order they came, and nothing is raised."""
    rule: Filter | SetFilter = working(component, tmp_path)
    bag = mixed_bag(huge=50)  # answers of 1 MB
    seen: list[str] = []

    def noted() -> Any:
        for one in bag:
            seen.append(one.id)
            yield one

    checks = list(rule.sift(noted(), context()))
    assert len(checks) == len(bag)
    assert seen == [one.id for one in bag]


@each
def test_every_verdict_explains_itself(component: type[Component], tmp_path: Path) -> None:
    """A failed check has a snake_case reason, a passed one none; the value is finite; the name is the rule's."""
    rule = working(component, tmp_path)
    for check in rule.sift(mixed_bag(), context()):
        assert (check.reason == "") == check.passed
        assert check.passed or re.fullmatch(r"[a-z][a-z0-9_]*", check.reason)
        assert math.isfinite(check.value)
        assert check.name == kind_of(component)
        assert len(check.detail) < 1000


@each
def test_a_verdict_is_the_same_again(component: type[Component], tmp_path: Path) -> None:
    """The same records give the same checks."""
    rule = working(component, tmp_path)
    assert list(rule.sift(mixed_bag(), context())) == list(rule.sift(mixed_bag(), context()))


@each
def test_its_checks_carry_its_name(component: type[Component], tmp_path: Path) -> None:
    """Two rules of one kind are told apart by `name`."""
    rule = component.model_validate(working(component, tmp_path).model_dump() | {"name": "mine"})
    assert {c.name for c in rule.sift([record()], context())} == {"mine"}  # type: ignore[attr-defined]


@each
def test_no_records_are_no_verdicts(component: type[Component], tmp_path: Path) -> None:
    """An empty stream is fine."""
    assert list(working(component, tmp_path).sift([], context())) == []


@each
def test_the_stage_accounts_for_every_record(component: type[Component], tmp_path: Path) -> None:
    """In the filter stage came = kept + dropped, order stays, and what was dropped before is left alone."""
    rule = working(component, tmp_path)
    tally = Tally(step="x")
    gone = Check(name="before", passed=False, reason="gone")
    bag = [one.checked(gone) if n % 3 == 0 else one for n, one in enumerate(mixed_bag())]
    out = list(apply(rule, bag, context(), tally))
    assert [one.id for one in out] == [one.id for one in bag]
    assert tally.came == tally.kept + sum(tally.dropped.values()) == sum(not one.dropped for one in bag)
    for before, after in zip(bag, out, strict=True):
        assert after == before if before.dropped else after.scored(kind_of(component)) is not None


def test_a_request_is_answered_for_its_own_record(tmp_path: Path) -> None:
    """A judge reads ahead without mixing up whose verdict is whose."""
    (judge,) = (working(component, tmp_path) for component in of("filter") if kind_of(component) == "judge")

    def script(request: Request) -> Completion:
        return Completion(text="5" if "good" in request.messages[-1].content.split("<text-")[1] else "1")

    bag = [record("good" if n % 3 else "bad", id=str(n)) for n in range(9)]
    assert [c.passed for c in judge.sift(bag, Oracle(script))] == [bool(n % 3) for n in range(9)]
