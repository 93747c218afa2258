"""What holds for every source and every task."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.component import Component, kind_of
from pipeline.engines import Completion
from pipeline.errors import UsageError
from pipeline.records import Seed
from stages.tasks.base import Question
from tests.contract.families import example, of
from tests.stages.scripted import played

each_source = pytest.mark.parametrize("component", of("source"), ids=kind_of)
REASON = re.compile(r"([a-z][a-z0-9_]*)?")
each_task = pytest.mark.parametrize("component", of("task"), ids=kind_of)
FIELDS: dict[str, Any] = {"prompt": "Tell me.", "character": "a fox", "keywords": ["moon", "boat"], "words": 80,
                          "request": {}, "response": {}, "problem": ""}  # fmt: skip


@each_source
def test_a_source_gives_what_it_declares(component: type[Component], tmp_path: Path) -> None:
    """Every seed carries the declared fields, has an id of its own and says where it was read."""
    source = example(component, tmp_path)
    seeds = list(source.seeds(7, 0.5))
    assert seeds
    assert all(source.fields() <= set(s.fields) and s.where for s in seeds)
    assert len({s.id for s in seeds}) == len(seeds)


@each_source
def test_a_source_can_be_read_again(component: type[Component], tmp_path: Path) -> None:
    """Reading twice gives the same seeds, and a smaller `count` the first of them."""
    source = example(component, tmp_path)
    assert list(source.seeds(7, 0.5)) == list(source.seeds(7, 0.5))
    two, three = (list(source.model_copy(update={"count": n}).seeds(7, 0.5)) for n in (2, 3))
    assert two == three[:2]


@each_task
def test_a_task_refuses_seeds_it_cannot_ask(component: type[Component], tmp_path: Path) -> None:
    """A source that lacks what the task needs is refused before anything is asked."""
    task = example(component, tmp_path)
    task.require(set(FIELDS))
    with pytest.raises(UsageError):
        task.require({"something_else"})


def first(task: Any, fields: dict[str, Any], where: str = "here") -> list[Question]:
    """What a task's script over one seed asks first."""
    seed = Seed("s", fields, where)
    asked: Any = next(task.script(seed, random.Random(1), task.remember([seed])), [])
    return [asked] if isinstance(asked, Question) else asked


@each_task
def test_a_task_names_the_seed_it_cannot_ask(component: type[Component], tmp_path: Path) -> None:
    """A bad seed is refused with the place it was read from."""
    with pytest.raises(UsageError, match=r"seeds\.jsonl:7"):
        first(example(component, tmp_path), {}, "seeds.jsonl:7")


@each_task
def test_a_task_asks_a_question(component: type[Component], tmp_path: Path) -> None:
    """What is sent can be answered, what a failed row shows of it is part of it, and it is the same each time."""
    task = example(component, tmp_path)
    for question in first(task, FIELDS):
        assert question.open_user or question.messages[-1].role == "user"
        assert set(question.kept or ()) <= set(question.messages)
    assert [q.messages for q in first(task, FIELDS)] == [q.messages for q in first(task, FIELDS)]


@each_task
@given(text=st.text(max_size=200))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_task_reads_any_answer(component: type[Component], tmp_path: Path, text: str) -> None:
    """Whatever the teacher says, a script ends with examples that are whole or dropped for a reason."""
    said = Completion(text=text, finish_reason="stop")
    (unit,) = played(example(component, tmp_path), [Seed("s", FIELDS, "here")], tmp_path, lambda request: said)
    assert unit.examples
    assert all(REASON.fullmatch(e.reason) and e.messages for e in unit.examples)


@each_task
def test_no_answer_is_a_reason(component: type[Component], tmp_path: Path) -> None:
    """A teacher that fails leaves rows that say so."""
    failed = Completion(error="too long")
    (unit,) = played(example(component, tmp_path), [Seed("s", FIELDS, "here")], tmp_path, lambda request: failed)
    if unit.spent.requests:
        assert {(e.reason, e.detail) for e in unit.examples} == {("no_answer", "too long")}
