"""--retry: rows that were dropped are asked for once more, the others are not."""

from pathlib import Path

import pytest

from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from stages import flow
from tests.stages.conftest import Workshop, number
from tests.stages.scripted import Shuffled


class Teacher:
    """Cuts 2, says nothing to 3 and fails at 4, until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.asked: list[int] = []

    def __call__(self, request: Request) -> Completion:
        """An answer, or none."""
        n = number(request)
        self.asked.append(n)
        if self.mended or n not in (2, 3, 4):
            return Completion(text=f"The number {n}: {request.seed}.", finish_reason="stop", completion_tokens=5)
        if n == 2:
            cut = request.sampling.max_tokens < 20
            text = "The number 2, cut" if cut else "The number 2, whole now"
            return Completion(text=text, finish_reason="length" if cut else "stop", completion_tokens=9)
        return Completion(text="", finish_reason="stop") if n == 3 else Completion(error="down")


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Teacher:
    """Whom every replay asks."""
    found = Teacher()
    monkeypatch.setattr(Replay, "open", lambda self, log=None: Shuffled(found, 4, 0))
    return found


SETTINGS = ("generate.sampling.max_tokens=10", "generate.retries=0")


def made(workshop: Workshop, *retry: str, settings: tuple[str, ...] = SETTINGS) -> dict[str, str]:
    """The reasons of a generate version by question."""
    plan = workshop.plan(*settings)
    (version,) = flow.run_stages(plan, workshop.run, ["generate"], flow.Options(retry=frozenset(retry)))  # type: ignore[arg-type]
    rows = [*version.read("kept"), *version.read("heldout"), *version.read("dropped")]
    assert len(rows) == 8
    return {r.prompt.split()[-1].rstrip("."): r.reason for r in rows if r.reason}


def test_only_the_dropped_rows_are_asked_again(workshop: Workshop, teacher: Teacher) -> None:
    """Each sort of --retry asks for its own rows; without it nothing is asked."""
    assert made(workshop) == {"2": "truncated", "3": "empty_answer", "4": "no_answer"}
    teacher.mended = True
    teacher.asked.clear()
    assert made(workshop) == {"2": "truncated", "3": "empty_answer", "4": "no_answer"}
    assert teacher.asked == []
    assert made(workshop, "unreadable") == {"2": "truncated"}
    assert sorted(teacher.asked) == [3, 4]  # what failed was never remembered
    teacher.asked.clear()
    assert made(workshop, "truncated", "unreadable") == {}
    assert teacher.asked == [2]


def test_a_higher_limit_asks_for_the_cut_rows_alone(workshop: Workshop, teacher: Teacher) -> None:
    """Raising max_tokens keeps every answer that ended by itself."""
    made(workshop)
    teacher.asked.clear()
    assert made(workshop, settings=("generate.sampling.max_tokens=50", "generate.retries=0")).keys() == {"3", "4"}
    assert sorted(teacher.asked) == [2, 4]


def test_nothing_to_retry_is_up_to_date(workshop: Workshop, teacher: Teacher, tmp_path: Path) -> None:
    """A version without such rows is taken as it is."""
    teacher.mended = True
    assert made(workshop) == {}
    teacher.asked.clear()
    assert made(workshop, "failed", "truncated", "unreadable") == {}
    assert teacher.asked == [] and len(workshop.run.versions("generate")) == 1
