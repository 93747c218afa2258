"""train: TRL teaches the student what curation kept."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import Field

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
from stages.student import Named, Student
from stages.training import Lesson


class Train(Stage):
    """Train the student on the rows that were kept; writes `model/` and `metrics.jsonl`."""

    stage: ClassVar[str] = "train"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("curate", "filter", "generate"),)

    student: Student
    teacher: Annotated[
        LocalModel | None, Field(description="who teaches beside the rows; the plan's teacher where left out")
    ] = None
    objective: AnyObjective
    min_rows: Annotated[int, Field(ge=1, description="refuse to train on fewer")] = 1
    max_cut: Annotated[
        float, Knob(), Field(ge=0, le=1, description="refuse to train when max_length cuts a larger share of the rows")
    ] = 0.05

    def settings(self, seed: int, teacher: Engine | None) -> dict[str, Any]:
        """Student and teacher count by the content of their models."""
        base, tutor = self.student.base(teacher), self.tutor(teacher)
        models = {"student": [base.model, find(*base).revision]}
        if tutor is not None:
            models["tutor"] = [tutor.model, find(*tutor).revision]
        return super().settings(seed, teacher) | models

    def models(self, teacher: Engine | None) -> list[tuple[str, str]]:
        """What the student is made from, and who teaches it."""
        tutor = self.tutor(teacher)
        return list(dict.fromkeys([self.student.base(teacher), *([tutor] if tutor else [])]))

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
            taught = training.teach(lesson, found, out.path)
        if found.lost:
            tally.kept, tally.dropped["answer_cut_off"] = tally.kept - found.lost, found.lost
        with (out.path / "metrics.jsonl").open("wb") as file:
            for row in taught.history:
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        out.manifest.ledger.append(tally)
        out.manifest.figures = (
            _sizes(found, job.teacher) | {"rows": tally.kept} | taught.figures | {"preflight": found.figures()}
        )
        out.manifest.notes += [*(str(f) for f in found.found), *taught.notes]
        (out.path / "model" / "README.md").write_text(self._card(job, out.manifest), encoding="utf-8")

    def given(self, run: Run, teacher: Engine | None, inputs: Inputs, job: Job | None) -> Given:
        """What the objective makes its rows from."""
        versions = list(inputs.versions.values())

        def behind(stage: str) -> Any:
            return next((found for v in versions if (found := run.behind(v, stage)) is not None), None)

        return Given(inputs.rows, behind, self.student.spec(teacher), job)

    def write_rows(self, given: Given, file: Path) -> Tally:
        """The exact rows the trainer reads, as JSONL. Raises PipelineError for fewer than `min_rows`."""
        left: Counter[str] = Counter()
        tally = Tally(step="train")
        with file.open("wb") as sink:
            for row in self.objective.rows(given):
                tally.came += 1
                if isinstance(row, Left):
                    left[row.reason] += 1
                else:
                    sink.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                    tally.kept += 1
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
        return Lesson(
            self.objective, self.student.spec(teacher), self.tutor(teacher), stored, rows, teacher_tokens(teacher),
            self.max_cut, seed, work,
        )  # fmt: skip

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
        return "\n".join([*front, "---", f"# {job.run.path.name} student", "", text, ""])


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
