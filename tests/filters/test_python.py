"""Python: the user's own function, what it may say, and what becomes of its mistakes."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from filters.python import Python
from pipeline.errors import PipelineError
from pipeline.records import Check
from tests.helpers import record

CODE = '''\
"""Rules of mine."""
import dataclasses
from math import sqrt as root

LIMIT = 3

@dataclasses.dataclass
class Word:
    text: str

def says(record):
    return record.meta["says"]

def helper(record):
    return record.meta["missing"]

def fails(record):
    return helper(record) > LIMIT

async_ = 4
'''


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A file of functions."""
    path = tmp_path / "rules.py"
    path.write_text(CODE)
    return path


def said(rules: Path, value: Any, **settings: Any) -> Check:
    rule = Python(function=f"{rules}:says", **settings)
    return rule.judge(record().model_copy(update={"meta": {"says": value}}))


class Scalar:
    """What a number of numpy looks like."""

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        """The number as Python has it."""
        return self.value


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (True, Check(name="python", value=1)),
        (False, Check(name="python", passed=False, reason="rejected", detail="says said no")),
        (2.5, Check(name="python", value=2.5)),
        (Scalar(2), Check(name="python", value=2)),
        (0, Check(name="python", passed=False, reason="low_value", detail="0, under 1")),
        (9, Check(name="python", value=9, passed=False, reason="high_value", detail="9, over 4")),
        ((False, "too_polite"), Check(name="python", passed=False, reason="too_polite")),
        ((False, "too_polite", "so sorry"), Check(name="python", passed=False, reason="too_polite", detail="so sorry")),
        ((True, "", "fine"), Check(name="python", value=1, detail="fine")),
        ({"value": 2, "passed": False}, Check(name="python", value=2, passed=False, reason="rejected")),
        ({"value": 9, "passed": True}, Check(name="python", value=9)),
        ({"value": 9, "detail": "far"}, Check(name="python", value=9, passed=False, reason="high_value", detail="far")),
    ],
)
def test_what_it_may_say(rules: Path, value: Any, wanted: Check) -> None:
    """A bool, a number within bounds, a tuple, or a dict."""
    assert said(rules, value, min_value=1, max_value=4) == wanted


@pytest.mark.parametrize(
    "value",
    [None, "no", (), (False,), (1, "x"), {}, {"pass": True}, {"passed": 1}, {"value": "3"}, float("nan"),
     (False, "Too Polite"), {"value": 1, "reason": 3}],
)  # fmt: skip
def test_anything_else_stops_the_run(rules: Path, value: Any) -> None:
    """A forgotten return drops no row in silence."""
    with pytest.raises(PipelineError, match=r"rules\.py:says returned .* for the record r1\nhint: return a bool"):
        said(rules, value)


def test_a_bug_is_shown_with_its_line(rules: Path) -> None:
    """The innermost line in the user's own file, the record, and the error."""
    with pytest.raises(PipelineError) as error:
        Python(function=f"{rules}:fails").judge(record())
    assert str(error.value).startswith(f"{rules}:15 in helper failed on the record r1: KeyError: 'missing'")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("rules.py", "write it as module:function or file.py:function"),
        ("rules.py:", "write it as"),
        ("none.py:says", "no such file: .*none.py"),
        (
            "rules.py:sais",
            "rules.py has no function 'sais'; it has LIMIT, Word, async_, dataclasses, fails, helper, root",
        ),
        ("broken.py:f", "broken.py:2: "),
        ("no_such_module:f", "no module no_such_module"),
    ],
)
def test_a_wrong_name_is_refused_with_the_plan(rules: Path, function: str, message: str) -> None:
    """Before anything runs, the file's own lines included: it is read, not executed."""
    (rules.parent / "broken.py").write_text("def f(x):\nreturn 1\n")
    with pytest.raises(ValidationError, match=message):
        Python.model_validate({"function": function}, context={"folder": rules.parent})


def test_reading_a_plan_runs_nothing(tmp_path: Path) -> None:
    """The file is executed when the stage starts, and its own failure is shown with its line."""
    (tmp_path / "loud.py").write_text("x = 1\nraise RuntimeError('boom')\ndef f(record):\n    return True\n")
    rule = Python.model_validate({"function": "loud.py:f"}, context={"folder": tmp_path})
    rule.identity()
    with pytest.raises(PipelineError, match=r"loud\.py:2 in <module>: RuntimeError: boom"):
        rule.prepare()


def test_a_module_on_the_path_does_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`module:function`, found as Python finds it."""
    (tmp_path / "my_rules_module.py").write_text("def f(record):\n    return len(record.answer)\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert Python(function="my_rules_module:f").judge(record("four")).value == 4
    finally:
        sys.modules.pop("my_rules_module", None)


def test_the_file_counts_by_its_content(rules: Path, tmp_path: Path) -> None:
    """An edited function is another fingerprint; the same file elsewhere is not."""
    before = Python(function=f"{rules}:says").identity()
    moved = tmp_path / "moved.py"
    moved.write_text(CODE)
    assert Python(function=f"{moved}:says").identity() == before
    rules.write_text(CODE.replace("LIMIT = 3", "LIMIT = 4"))
    assert Python(function=f"{rules}:says").identity() != before


def test_it_travels_to_another_process(rules: Path) -> None:
    """The stage sends rules to its workers, also one that has been used."""
    rule = Python(function=f"{rules}:says")
    told = record().model_copy(update={"meta": {"says": True}})
    assert rule.judge(told).passed
    assert pickle.loads(pickle.dumps(rule)).judge(told).passed
