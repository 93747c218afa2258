"""What a schedule is: several trainings in a row, each taught by the last."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pipeline.component import Component
from stages.student import Student
from stages.training import Lesson, Trained


class School(NamedTuple):
    """What a schedule works with."""

    teach: Callable[[Lesson, str], Trained]
    """trains one student under a name; one that an interrupted run has trained already is taken as it is"""
    students: list[dict[str, Any]]
    """those of the schedule, as `stages.student.load` takes them"""
    heldout: list[list[dict[str, str]]]
    """conversations that nobody is trained on; the last turn is the teacher's answer"""


class Result(NamedTuple):
    """What came of it."""

    best: Trained
    """the student to keep"""
    figures: dict[str, Any]


class Schedule(Component):
    """Base of the schedules."""

    kind: str

    @property
    def students(self) -> Iterable[Student]:
        """Students that are trained on the way, beside the plan's own."""
        return ()

    def require(self, lesson: Lesson, students: list[dict[str, Any]]) -> None:
        """Refuse models this schedule cannot do with, before any is trained. Raises UsageError."""

    @abstractmethod
    def run(self, lesson: Lesson, school: School) -> Result:
        """Train them all; `lesson` is the plan's: its student, taught by its teacher."""
