"""Students of an ablation: each is trained and measured once, whichever ablation of the run asks for it.

They lie in `RUN/ablate/students/<digest of what made them>/`, and an interrupted training goes on from its checkpoint.
Their weights are removed once they are measured, unless they are to be kept.
"""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline import console
from pipeline.engines import Engine
from pipeline.job import Job
from pipeline.models import find
from pipeline.records import digest
from pipeline.run import Run
from pipeline.store import Version, write_atomic
from stages import child, flow, training
from stages.ablation.arms import Arm, take
from stages.evaluate_figures import Measured
from stages.exam import Exam
from stages.objectives.base import Given, Objective
from stages.preflight import Preflight
from stages.scores.tasks import LmEval
from stages.train import Train
from stages.training import Lesson

FORMAT = 1
FIGURES, ROWS, MODEL, WORK = "figures.json", "rows.jsonl", "model", "work"


class Student(NamedTuple):
    """One student of an arm, trained or to be trained. `source`: the version its rows come from."""

    arm: Arm
    seed: int
    source: Version
    rows: int
    """of a draw"""
    tokens: int | None
    """to go through; None where the plan's own settings say how many"""
    folder: Path

    @property
    def figures(self) -> dict[str, Any]:
        """What its training came to. It has been trained."""
        found: dict[str, Any] = orjson.loads((self.folder / FIGURES).read_bytes())
        return found


class Ready(NamedTuple):
    """What has been looked at and found fit to train."""

    train: Train
    given: Given
    lesson: Lesson
    found: Preflight
    records: int


class Questions(NamedTuple):
    """What every model is put: the exam, and tasks of lm-evaluation-harness where the plan has some."""

    exam: Exam
    lm_eval: LmEval | None

    @property
    def file(self) -> str:
        """Where a model's answers are kept."""
        tasks = self.lm_eval.identity() if self.lm_eval else None
        return f"measured-{digest([self.exam.task(), tasks])}.json"


class Lab:
    """Trains students and puts the questions to them."""

    def __init__(self, run: Run, questions: Questions, *, keep: bool) -> None:
        self.run, self.questions, self.keep = run, questions, keep
        self.home = run.path / "ablate/students"
        self.log = run.logs / "ablate.log"
        self._file = questions.file

    def student(self, arm: Arm, seed: int, source: Version, rows: int, tokens: int | None) -> Student:
        """An arm's student of one seed."""
        drawn = [arm.data, arm.pass_rate, arm.score, rows] if arm.draws else None
        settings = arm.train.settings(seed, arm.plan.teacher)
        made_of = {"train": settings, "from": source.manifest.fingerprint, "drawn": drawn, "tokens": tokens}
        return Student(arm, seed, source, rows, tokens, self._place(made_of))

    def known(self, student: Student) -> bool:
        """Whether it is measured, or trained and its weights are here."""
        if not (student.folder / FIGURES).is_file():
            return False
        return self._answers(student.folder).is_file() or (student.folder / MODEL).is_dir()

    def twin(self, student: Student) -> Version | None:
        """What `train` has made of the very same rows, settings and seed."""
        if student.tokens is not None or student.arm.draws:
            return None
        settings = student.arm.train.settings(student.seed, student.arm.plan.teacher)
        wanted = flow.fingerprint("train", settings, [student.source.manifest.fingerprint])
        version = self.run.with_fingerprint("train", wanted)
        return version if version and "seen" in version.manifest.figures else None  # older releases did not count

    def adopt(self, student: Student) -> bool:
        """Take its twin over, where it has one."""
        version = self.twin(student)
        if version is None:
            return False
        for info in version.manifest.files:
            version.verify(info)
        student.folder.mkdir(parents=True, exist_ok=True)
        for name in (ROWS, "metrics.jsonl"):
            shutil.copyfile(version.path / name, student.folder / name)
        _drop_weights(student.folder)
        (student.folder / MODEL).symlink_to((version.path / MODEL).resolve())
        figures = version.manifest.figures
        tokens = figures["preflight"]["tokens"]
        self._trained(student, figures | {"tokens": tokens, "train_version": version.name})
        return True

    def prepare(self, student: Student) -> Ready:
        """Write its rows and look at them as they will be fed. Raises UsageError, ModelError, PipelineError."""
        teacher, train = student.arm.plan.teacher, student.arm.train
        inputs = take(student.arm, student.source, student.rows, student.seed)
        work = student.folder / WORK
        work.mkdir(parents=True, exist_ok=True)
        (student.folder / FIGURES).unlink(missing_ok=True)  # of weights that are gone
        _drop_weights(student.folder)  # half written by a run that was killed
        job = Job(self.run, student.seed, teacher)
        try:
            given = train.given(self.run, teacher, inputs, job)
            tally = train.write_rows(given, student.folder / ROWS)
        finally:
            job.close()  # the student may have been asked
        with console.silenced(self.log):
            lesson = train.lesson(teacher, given, student.folder / ROWS, work, student.seed)
            found = training.examine(lesson)
        found.refuse()
        if student.tokens is not None:
            objective, found = within(train.objective, found, student.tokens)
            train, lesson = train.model_copy(update={"objective": objective}), lesson._replace(objective=objective)
        return Ready(train, given, lesson, found, tally.kept)

    def train(self, student: Student, ready: Ready) -> None:
        """Train it; what was begun goes on."""
        with console.silenced(self.log):
            taught = ready.train.teach(student.arm.plan.teacher, ready.given, ready.lesson, ready.found, student.folder)
        figures = {"rows": ready.records, "parameters": ready.found.parameters, "tokens": ready.found.tokens}
        self._trained(student, figures | {"seen": round(ready.found.work)} | taught.figures | {"notes": taught.notes})

    def measure(self, student: Student) -> Measured:
        """A trained student's answers; afterwards its weights go, unless they are kept."""
        found = self._measured(student.folder, {"model": str((student.folder / MODEL).resolve())})
        if not self.keep or (student.folder / MODEL).is_symlink():
            _drop_weights(student.folder)
        return found

    def untrained(self, arm: Arm) -> Measured:
        """What an arm's student answers before it is trained."""
        teacher, student = arm.plan.teacher, arm.train.student
        base = student.base(teacher)
        spec = student.spec(teacher)
        return self._measured(self._place({"model": spec, "revision": find(*base).revision}), spec)

    def teacher(self, teacher: Engine) -> Measured:
        """What a teacher answers whose weights are here."""
        spec = {"model": teacher.model, "revision": teacher.revision}
        revision = find(teacher.model, teacher.revision).revision
        return self._measured(self._place({"model": spec, "revision": revision}), spec)

    def _place(self, made_of: dict[str, Any]) -> Path:
        return self.home / digest({"format": FORMAT} | made_of)

    def _answers(self, folder: Path) -> Path:
        return folder / self._file

    def _measured(self, folder: Path, model: dict[str, Any]) -> Measured:
        answers = self._answers(folder)
        if not answers.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            exam, tasks = self.questions
            with console.Bar("measure", exam.steps + (1 if tasks else 0)) as bar:
                found = exam.sit(model, bar, self.log)
                if tasks is not None:
                    asked = tasks.job() | {"model": model, "seed": exam.seed}
                    found["lm_eval"] = child.ask("stages.harness", asked, bar, self.log)
            write_atomic(answers, orjson.dumps(found))
        measured: Measured = orjson.loads(answers.read_bytes())
        return measured

    def _trained(self, student: Student, figures: dict[str, Any]) -> None:
        """Say that it is trained: last, so that whatever is beside it is whole."""
        shutil.rmtree(student.folder / WORK, ignore_errors=True)
        write_atomic(student.folder / FIGURES, orjson.dumps(figures))


def within(objective: Objective, found: Preflight, tokens: int) -> tuple[Any, Preflight]:
    """An objective that goes through so many tokens, to the nearest step, and what its preflight comes to."""
    whole: Any = objective
    pass_steps = round(found.steps / found.passes)
    steps = max(1, round(pass_steps * tokens / found.tokens))
    passes = steps / pass_steps
    update = {"num_train_epochs": passes, "config": whole.config | {"max_steps": steps}}
    return whole.model_copy(update=update), found._replace(steps=steps, passes=passes)


def _drop_weights(folder: Path) -> None:
    """Remove a student's weights; of those that are another version's only the way there."""
    for part in (folder / name for name in (MODEL, "adapter", "steps")):
        if part.is_symlink():
            part.unlink()
        elif part.is_dir():
            shutil.rmtree(part)
