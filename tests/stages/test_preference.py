"""Several answers to one prompt, by temperature and by teacher."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.engines import Completion, Request
from pipeline.records import Seed
from stages.tasks.preference import Preference
from tests.stages.scripted import played, replay

SEED = Seed("s", {"prompt": "Name a colour."}, "seeds.jsonl:1")


def said(text: str) -> Completion:
    """A whole answer."""
    return Completion(text=text, finish_reason="stop", completion_tokens=1)


def test_every_answer_is_an_example_of_its_own(tmp_path: Path) -> None:
    """They differ in their seed of randomness and walk through the temperatures."""
    asked: list[Request] = []

    def script(request: Request) -> Completion:
        asked.append(request)
        return said(f"Colour {request.seed}.")

    (unit,) = played(Preference(temperatures=[0.2, 1.1]), [SEED], tmp_path, script, width=1)
    assert [r.sampling.temperature for r in asked] == [0.2, 1.1, 0.2, 1.1]
    assert len({r.seed for r in asked}) == 4
    assert [e.meta["candidate"] for e in unit.examples] == [0, 1, 2, 3]
    assert [e.messages[-1].content for e in unit.examples] == [f"Colour {r.seed}." for r in asked]
    assert [e.by.answered.request.sampling.temperature for e in unit.examples if e.by] == [0.2, 1.1, 0.2, 1.1]


def test_teachers_take_turns_and_meet_every_temperature(tmp_path: Path) -> None:
    """Engine and temperature do not go in step."""
    other = replay(tmp_path, "other")
    task = Preference(answers=4, temperatures=[0.0, 1.0], teachers=[other])
    (unit,) = played(task, [SEED], tmp_path, lambda request: said(f"{request.seed}"))
    by = [e.by for e in unit.examples if e.by is not None]
    assert [b.engine for b in by] == [None, other, None, other]
    assert [b.answered.request.sampling.temperature for b in by] == [0.0, 0.0, 1.0, 1.0]
    teacher = replay(tmp_path)
    assert task.asks(teacher) == [teacher, other]


def test_of_equal_answers_the_first_is_kept(tmp_path: Path) -> None:
    """Case and spacing make no other answer; a failed one is dropped by itself."""
    answers = ["Red.", " red. ", "", "Blue."]

    def script(request: Request) -> Completion:
        return said(answers.pop(0))

    (unit,) = played(Preference(), [SEED], tmp_path, script, width=1)
    assert [(e.reason, e.detail) for e in unit.examples] == [
        ("", ""),
        ("same_answer", "equal to candidate 0"),
        ("empty_answer", ""),
        ("", ""),
    ]


def test_too_few_answers_for_all_are_refused(tmp_path: Path) -> None:
    """Nobody and no temperature is left out silently."""
    with pytest.raises(ValidationError, match="that takes 6"):
        Preference(answers=4, temperatures=[0.2, 0.7, 1.2], teachers=[replay(tmp_path)])
