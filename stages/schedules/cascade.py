"""From large to small by way of the middle (teacher assistants; Mirzadeh et al. 2019, arXiv 1902.03393)."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.errors import UsageError
from stages.schedules.base import Result, Schedule, School
from stages.student import Named, Student, blank, count
from stages.training import Lesson


class Cascade(Schedule):
    """The teacher teaches a student of middle size, which teaches the next, down to the plan's own.

    An `init` always means the plan's teacher, in the middle too.
    """

    kind: Literal["cascade"] = "cascade"
    through: Annotated[list[Student], Field(min_length=1, description="students on the way, the largest first")]
    max_ratio: Annotated[
        float, Field(gt=1, description="refuse a single step from a model to one more than so many times smaller")
    ] = 10.0

    @property
    def students(self) -> Iterable[Student]:
        """Those on the way."""
        return self.through

    def require(self, lesson: Lesson, students: list[dict[str, Any]]) -> None:
        """Every step goes down, and none too far. Raises UsageError."""
        assert lesson.teacher is not None
        names = ["the teacher", *(f"train.schedule.through.{n}" for n in range(len(students))), "the student"]
        models = [blank(*lesson.teacher), *(blank(**spec) for spec in [*students, lesson.student])]
        sizes = [count(model) for model, _ in models]
        for n in range(1, len(sizes)):
            before, after = sizes[n - 1], sizes[n]
            step = f"{names[n - 1]} has {before:,} parameters and {names[n]} {after:,}"
            if after >= before:
                raise UsageError(f"train.schedule: {step}: a cascade goes down, the largest first")
            if before / after > self.max_ratio:
                raise UsageError(
                    f"train.schedule: {step}, {before / after:.1f} times fewer, and max_ratio is {self.max_ratio:g}",
                    hint="put a student between the two into train.schedule.through, or raise max_ratio",
                )

    def run(self, lesson: Lesson, school: School) -> Result:
        """Train them from the largest to the plan's own, which is kept."""
        teacher, ratios = lesson.teacher, {}
        for n, student in enumerate([*school.students, lesson.student], 1):
            made = school.teach(lesson._replace(student=student, teacher=teacher), f"step-{n}")
            ratios[made.name] = made.figures["ratio"]
            teacher = Named(str(made.folder / "model"))
        return Result(made, {"kept": made.name, "ratios": ratios})
