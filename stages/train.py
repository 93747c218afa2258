"""train: TRL teaches the student what curation kept."""

import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import Field, model_validator

from pipeline import console
from pipeline.component import Knob
from pipeline.engines import Engine
from pipeline.errors import PipelineError, UsageError
from pipeline.job import Job
from pipeline.models import find, parameters
from pipeline.run import Run
from pipeline.store import Manifest, Tally, VersionWriter
from pipeline.torch_model import LocalModel
from stages import tables_train, training
from stages.base import Inputs, Stage
from stages.objectives import AnyObjective
from stages.objectives.base import Given, Left
from stages.objectives.stored import Stored
from stages.preflight import Preflight
from stages.preflight_rows import teacher_tokens
from stages.schedules import AnySchedule
from stages.schedules.base import Schedule, School
from stages.student import Named, Student
from stages.training import Lesson, Taught, Trained

HELDOUT = 200  # held-out answers that a schedule compares its students on, at most


class Train(Stage):
    """Train the student on the rows that were kept; writes `model/` and `metrics.jsonl`."""

    stage: ClassVar[str] = "train"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("curate", "filter", "generate"),)

    student: Student
    teacher: Annotated[
        LocalModel | None, Field(description="who teaches beside the rows; the plan's teacher where left out")
    ] = None
    objective: AnyObjective
    schedule: Annotated[AnySchedule | None, Field(description="several trainings in a row; one where left out")] = None
    min_rows: Annotated[int, Field(ge=1, description="refuse to train on fewer")] = 1
    max_cut: Annotated[
        float, Knob(), Field(ge=0, le=1, description="refuse to train when max_length cuts a larger share of the rows")
    ] = 0.05

    @model_validator(mode="after")
    def _someone_teaches(self) -> "Train":
        if self.schedule is not None and self.objective.learns_from != "teacher":
            raise ValueError(
                f"schedule {self.schedule.kind}: each student is taught by the one before, and {self.objective.kind} "
                "learns from rows alone; take soft_label, feature, attention, gkd, reverse_kl or dpkd"
            )
        return self

    def settings(self, seed: int, teacher: Engine | None) -> dict[str, Any]:
        """Student and teacher count by the content of their models."""
        base, *others = ([name, find(name, revision).revision] for name, revision in self.models(teacher))
        return super().settings(seed, teacher) | {"student": base} | ({"taught_by": others} if others else {})

    def models(self, teacher: Engine | None) -> list[tuple[str, str]]:
        """What the student is made from; who teaches it; those on the way."""
        tutor = self.tutor(teacher)
        between = [student.base(teacher) for student in self.schedule.students] if self.schedule else []
        return [self.student.base(teacher), *([tutor] if tutor else []), *between]

    def tutor(self, teacher: Engine | None) -> Named | None:
        """The model that teaches beside the rows; None where none does. Raises UsageError where it is not here."""
        kind = self.objective.kind
        if self.objective.learns_from != "teacher":
            return None
        if self.teacher is not None:
            return Named(self.teacher.model, self.teacher.revision)
        if teacher is None:
            raise UsageError(
                f"objective {kind} learns from the teacher itself, and the plan has none",
                hint="train.teacher: {model: a Hub id or folder}",
            )
        if teacher.remote:
            raise UsageError(
                f"objective {kind} learns from the teacher's weights, and {teacher.model} is on a server",
                hint="train.teacher: {model: a Hub id or folder}; or store its log-probabilities while generating "
                "(generate.sampling.top_logprobs: 20) and train on them: {kind: soft_label, stored: true}",
            )
        return Named(teacher.model, teacher.revision)

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Train, resuming from the last checkpoint of an interrupted run of the same version."""
        log = job.run.logs / "train.log"
        given = self.given(job.run, job.teacher, inputs, job)
        tally = self.write_rows(given, out.path / "rows.jsonl")
        job.close_engines()  # the student may have been asked
        console.say(f"loading the student and TRL (log: {log})")
        with console.silenced(log):
            lesson = self.lesson(job.teacher, given, out.path / "rows.jsonl", out.work, job.seed)
            found = self._preflight(job, lesson)
            taught = self.teach(job.teacher, given, lesson, found, out.path)
        if found.gone:
            tally.kept, tally.dropped["answer_cut_off"] = tally.kept - found.gone, found.gone
        out.manifest.ledger.append(tally)
        out.manifest.figures = (
            _sizes(found, job.teacher)
            | {"rows": tally.kept, "seen": round(found.work)}
            | taught.figures
            | {"preflight": found.figures()}
        )
        out.manifest.notes += [*(str(f) for f in found.found), *taught.notes]
        (out.path / "model" / "README.md").write_text(self._card(job, out.manifest), encoding="utf-8")

    def teach(self, teacher: Engine | None, given: Given, lesson: Lesson, found: Preflight, folder: Path) -> Taught:
        """Train on rows that were `found` fit, by the schedule where there is one, into `folder`."""
        if self.schedule is None:
            return training.teach(lesson, found, folder)
        school = self._school(self.schedule, teacher, given, lesson, found)
        return self._in_steps(self.schedule, lesson, school, folder)

    def given(self, run: Run, teacher: Engine | None, inputs: Inputs, job: Job | None) -> Given:
        """What the objective makes its rows from."""
        versions = list(inputs.versions.values())

        def behind(stage: str) -> Any:
            return next((found for v in versions if (found := run.behind(v, stage)) is not None), None)

        return Given(inputs.rows, behind, self.student.spec(teacher), job)

    def write_rows(self, given: Given, file: Path) -> Tally:
        """The exact rows the trainer reads, as JSONL. Raises PipelineError for fewer than `min_rows`."""
        left: Counter[str] = Counter()
        tally, last = Tally(step="train"), ""
        with file.open("wb") as sink:
            for row in self.objective.rows(given):
                if isinstance(row, Left):
                    left[row.reason] += 1
                else:
                    sink.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                    tally.kept += row["id"] != last  # one record may give several rows, which follow each other
                    last = row["id"]
        tally.came = tally.kept + left.total()
        tally.dropped = dict(left)
        if tally.kept < self.min_rows:
            why = "".join(f"; {n:,} are {reason}" for reason, n in left.items())
            raise PipelineError(
                f"there are {tally.kept} rows to train on, and min_rows is {self.min_rows}{why}",
                hint="`pipeline status PLAN` shows where the rows went",
            )
        return tally

    def lesson(self, teacher: Engine | None, given: Given, rows: Path, work: Path, seed: int) -> Lesson:
        """The training of the plan. Raises UsageError where its teacher is not here."""
        stored = Stored.of(given.version("generate")) if self.objective.learns_from == "stored" else None
        lesson = Lesson(
            self.objective, self.student.spec(teacher), self.tutor(teacher), stored, rows, teacher_tokens(teacher),
            self.max_cut, seed, work,
        )  # fmt: skip
        if self.schedule is not None:
            self.schedule.require(lesson, [student.spec(teacher) for student in self.schedule.students])
        return lesson

    def seconds(self, run: Run, teacher: Engine | None, found: Preflight) -> float | None:
        """How long training will take, by the newest version of the same student and objective; None without one."""
        now = self.settings(0, teacher)
        for version in reversed(run.versions(self.stage)):
            then, speed = version.manifest.settings, version.manifest.figures.get("tokens_per_second")
            if speed and _sort(then) == _sort(now):
                return found.work / float(speed)
        return None

    def _preflight(self, job: Job, lesson: Lesson) -> Preflight:
        """Show what will be fed, and refuse what must not be."""
        try:
            found = training.examine(lesson)
            console.show(tables_train.report(found, self.seconds(job.run, job.teacher, found)))
            found.refuse()
        except UsageError:
            shutil.rmtree(lesson.work / "cache", ignore_errors=True)  # nothing to resume from
            raise
        return found

    def _school(
        self, schedule: Schedule, teacher: Engine | None, given: Given, whole: Lesson, found: Preflight
    ) -> School:
        """What the schedule trains with; its students are kept in `work/`, to be taken up by the next run."""
        answers = given.version("filter") or given.version("generate")
        heldout = islice(answers.read("heldout") if answers else (), HELDOUT)

        def teach(lesson: Lesson, name: str) -> Trained:
            seen = found if lesson.student == whole.student else None
            return training.step(lesson, name, whole.work / "steps" / name, seen)

        students = [student.spec(teacher) for student in schedule.students]
        return School(teach, students, [[m.model_dump() for m in record.messages] for record in heldout])

    def _in_steps(self, schedule: Schedule, lesson: Lesson, school: School, folder: Path) -> Taught:
        """Train the schedule's students; the best becomes `model/`, the others stay under `steps/`."""
        result = schedule.run(lesson, school)
        (lesson.work / "steps").rename(folder / "steps")
        best = folder / "steps" / result.best.name
        for part in ("model", "adapter", "metrics.jsonl"):
            if (best / part).exists():
                (best / part).rename(folder / part)
        shutil.rmtree(best)
        own = ("parameters", "ratio", "notes")  # of its step, not of the version
        figures = {name: value for name, value in result.best.figures.items() if name not in own}
        return Taught(figures | {"schedule": result.figures}, result.best.figures["notes"])

    def _card(self, job: Job, manifest: Manifest) -> str:
        name, revision = self.student.base(job.teacher)
        licence = find(name, revision).licence
        front = ["---", *([f"license: {licence}"] if licence else []), f"base_model: {name}", "tags: [distillation]"]
        taught = f"by {job.teacher.model} " if job.teacher else ""
        text = (
            f"Taught {taught}with `{self.objective.kind}` on {manifest.figures['rows']} examples "
            f"({manifest.figures['parameters']:,} parameters). Made by version `{manifest.version}`; "
            "its `manifest.json` holds every setting."
        )
        more = self.objective.card(manifest.figures)
        return "\n".join([*front, "---", f"# {job.run.path.name} student", "", text, "", *([more, ""] if more else [])])


def _sizes(found: Preflight, teacher: Engine | None) -> dict[str, Any]:
    """Parameters of the student and of the teacher, where its files are at hand."""
    whole = found.teacher_parameters
    if not whole and teacher is not None and not teacher.remote:
        whole = parameters(teacher.model, teacher.revision)
    sizes: dict[str, Any] = {"parameters": found.parameters}
    if whole:
        sizes |= {"teacher_parameters": whole, "ratio": round(whole / found.parameters, 2)}
    return sizes


def _sort(settings: dict[str, Any]) -> list[Any]:
    """What the speed of training depends on most."""
    train = settings["train"]
    return [settings["student"], train["student"], train["objective"]["kind"], train["objective"].get("lora")]
