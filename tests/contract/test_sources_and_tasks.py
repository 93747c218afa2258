"""What holds for every source and every task."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.component import Component, kind_of
from pipeline.engines import Completion
from pipeline.errors import UsageError
from pipeline.records import Seed
from tests.contract.families import example, of

each_source = pytest.mark.parametrize("component", of("source"), ids=kind_of)
each_task = pytest.mark.parametrize("component", of("task"), ids=kind_of)
FIELDS: dict[str, Any] = {"prompt": "Tell me.", "character": "a fox", "keywords": ["moon", "boat"], "words": 80}


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


@each_task
def test_a_task_names_the_seed_it_cannot_ask(component: type[Component], tmp_path: Path) -> None:
    """A bad seed is refused with the place it was read from."""
    with pytest.raises(UsageError, match=r"seeds\.jsonl:7"):
        example(component, tmp_path).ask(Seed("s", {}, "seeds.jsonl:7"))


@each_task
def test_a_task_asks_a_question(component: type[Component], tmp_path: Path) -> None:
    """What is sent ends with a user turn, and is the same each time."""
    task = example(component, tmp_path)
    asked = task.ask(Seed("s", FIELDS, "here"))
    assert asked.messages[-1].role == "user"
    assert set(asked.kept) <= set(asked.messages)
    assert asked == task.ask(Seed("s", FIELDS, "here"))


@each_task
def test_a_task_reads_any_answer(component: type[Component], tmp_path: Path) -> None:
    """An answer becomes the last turn; no answer, or an empty one, is a reason and never an exception."""
    task = example(component, tmp_path)
    asked = task.ask(Seed("s", FIELDS, "here"))
    good = task.read(asked, Completion(text=" 토끼 🐰\n"))
    assert (good.messages[-1].role, good.messages[-1].content, good.reason) == ("assistant", "토끼 🐰", "")
    assert task.read(asked, Completion(text=" \n")).reason == "empty_answer"
    failed = task.read(asked, Completion(error="too long"))
    assert (failed.reason, failed.detail) == ("no_answer", "too long")
