"""The ablation itself: arms, their students, one exam for all, and a version that holds what was found."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filters.judge import Judge
from pipeline import console, torch_model
from pipeline.config import Override
from pipeline.engines import Engine
from pipeline.errors import PipelineError, UsageError
from pipeline.job import Job
from pipeline.models import ensure
from pipeline.run import Run
from pipeline.store import Input, Manifest, Version, VersionWriter
from stages import flow
from stages.ablation import picture
from stages.ablation.arms import Arm, Arms, Sources, arms
from stages.ablation.figures import Results, Seen, figures
from stages.ablation.files import write
from stages.ablation.notes import notes
from stages.ablation.section import Ablate
from stages.ablation.students import Lab, Questions, Ready, Student
from stages.base import Inputs
from stages.evaluate import Evaluate
from stages.evaluate_figures import Measured
from stages.plan import Plan, load
from stages.scores.base import Columns
from stages.scores.judged import Duels, fought, graded
from stages.scores.leaks import prompts
from stages.scores.tasks import tasks

STAGE, PICTURE = "ablate", "contrasts.svg"


class Study:
    """One ablation of a plan: its arms, and the versions their rows come from once `sources` are found or made."""

    def __init__(self, path: Path, overrides: tuple[Override, ...], plan: Plan, run: Run) -> None:
        self.section = plan.ablate or Ablate()
        if self.section.rows is not None and plan.curate is not None:
            overrides = (*overrides, ("curate.keep", self.section.rows))
            plan = load(path, overrides)
        self.plan, self.run = plan, run
        self.evaluate = plan.evaluate or Evaluate()
        self.arms: Arms = arms(path, overrides, plan, self.section)
        self.seeds = [plan.seed + n for n in range(self.section.seeds)]
        self.sources: dict[str, Version] = {}

    def make_sources(self) -> None:
        """The version each arm's rows come from, made where it is not there. Raises UsageError, PipelineError."""
        sources = Sources(self.plan, self.run)
        self.sources = {name: sources.of(arm) for name, arm in self.arms.all.items()}

    def find_sources(self) -> list[str]:
        """As `make_sources`, but makes nothing: the arms whose version is not there."""
        sources = Sources(self.plan, self.run)
        found = {name: sources.there(arm) for name, arm in self.arms.all.items()}
        self.sources = {name: version for name, version in found.items() if version is not None}
        return [name for name in found if name not in self.sources]

    def require(self) -> None:
        """Refuse before anything is loaded: nothing is generated in passing. Raises UsageError."""
        first = next(iter(self.plan.stages()))
        if self.run.current(first) is None:
            raise UsageError(f"ablate reads {first}, which has not been run", hint=f"pipeline {first} PLAN")
        self.evaluate.prepare(Job(self.run, self.plan.seed, self.plan.teacher), Inputs(None, {}))

    @property
    def own(self) -> Arm:
        """The plan as it stands."""
        return self.arms.all[self.arms.own]

    @property
    def rows(self) -> int:
        """Of a draw."""
        return self.section.rows or self.sources[self.arms.own].rows("kept")

    def heldout(self) -> Version:
        """Whose held-out answers everybody is measured on."""
        stage = self.section.heldout if self.section.heldout in self.plan.stages() else "generate"
        for name, source in self.sources.items():
            found = self.run.behind(source, stage)
            if found is not None and self.arms.all[name].plan is self.plan:
                return found
        raise UsageError(
            f"ablate measures on held-out rows of {stage}, and no arm's rows come from there",
            hint="ablate.heldout: generate",
        )

    def students(self, lab: Lab, name: str, budget: int) -> list[Student]:
        """An arm's, one a seed. The plan's own, and other students on its rows, train as long as the plan says."""
        arm = self.arms.all[name]
        tokens = self.section.tokens
        if tokens is None and not arm.other_student and not self._as_own(name):
            tokens = budget
        return [lab.student(arm, seed, self.sources[name], self.rows, tokens) for seed in self.seeds]

    def _as_own(self, name: str) -> bool:
        """Whether an arm's students are the plan's own, whatever it is called."""
        arm, own = self.arms.all[name], self.own
        rows = [(self.sources[one.name].manifest.fingerprint, one.draws, one.pass_rate) for one in (arm, own)]
        teacher = arm.plan.teacher
        return rows[0] == rows[1] and arm.train.settings(0, teacher) == own.train.settings(0, own.plan.teacher)

    def settings(self) -> dict[str, Any]:
        """Everything in the plan and its variants that shapes the outcome."""
        trained = {name: arm.train.settings(self.plan.seed, arm.plan.teacher) for name, arm in self.arms.all.items()}
        measured = self.evaluate.settings(self.plan.seed, self.plan.teacher)
        return {"ablate": self.section.identity(), "train": trained, "measured": measured}

    def inputs(self) -> list[Input]:
        """The versions that rows come from, and the held-out answers, each once."""
        found = {v.manifest.fingerprint: v for v in [*self.sources.values(), self.heldout()]}
        return [Input(stage=v.manifest.stage, version=v.name, fingerprint=print_) for print_, v in found.items()]


def ablate(study: Study, *, again: bool = False) -> Version:
    """The version that holds the ablation, made where it is not there. Holds the run for writing."""
    plan, run = study.plan, study.run
    study.require()
    for arm in study.arms.all.values():
        for model, revision in arm.train.models(arm.plan.teacher):
            ensure(model, revision)
    study.make_sources()
    inputs, settings = study.inputs(), study.settings()
    wanted = flow.fingerprint(STAGE, settings, [source.fingerprint for source in inputs])
    with run.writing():
        ready = run.with_fingerprint(STAGE, wanted)
        if ready is not None and not again:
            console.say(f"{STAGE}: up to date ({ready.name})")
            run.set_current(ready)
            return ready
        folder = run.folder_for(STAGE, wanted)
        manifest = Manifest(
            stage=STAGE, version=folder.name, fingerprint=wanted, settings=settings, inputs=inputs, started=flow.now()
        )
        job = Job(run, plan.seed, plan.teacher)
        writer = VersionWriter(folder, manifest)
        try:
            writer.begin()
            _work(study, job, writer)
            version = writer.seal()
        except BaseException:
            writer.discard()
            raise
        finally:
            job.close()
        run.set_current(version)
    return version


def _work(study: Study, job: Job, out: VersionWriter) -> None:
    """Train, measure, judge, and write it down."""
    started = time.monotonic()
    lab, left = laboratory(study)
    everybody, waiting, budget = _everybody(study, lab)
    _train(lab, waiting, len(everybody))
    results = Results(study.arms, _measured(study, lab, everybody), _aside(study, lab), [])
    _judge(study, job, results)
    exam = lab.questions.exam
    out.manifest.figures = figures(results) | {
        "seeds": study.seeds, "draw": study.rows, "budget": budget, "heldout": study.heldout().name,
        "prompts": len(exam.examples), "answered": exam.asked, "leaks": len(left),
    }  # fmt: skip
    out.manifest.notes = notes(study, out.manifest.figures)
    if find_spec("matplotlib") is not None:
        (out.path / PICTURE).write_bytes(picture.svg(out.manifest.figures, job.run.path.name))
    else:
        console.say(f"{PICTURE} is not drawn: matplotlib is not installed (the extra `embed`)")
    write(out.path, results)
    out.manifest.usage = job.spent() | {"seconds": round(time.monotonic() - started, 1)}
    out.manifest.finished, out.manifest.environment = flow.now(), flow.environment()


def laboratory(study: Study) -> tuple[Lab, list[str]]:
    """Where students are trained and measured; and the held-out rows that some arm trains on, which are left out."""
    trained: set[str] = set()
    rated = {study.sources[name].manifest.fingerprint for name, arm in study.arms.all.items() if arm.pass_rate}
    for print_, version in {v.manifest.fingerprint: v for v in study.sources.values()}.items():
        trained |= prompts(version.read("kept"))
        if print_ in rated:  # whose rows come from those that were dropped, too
            trained |= prompts(record for record in version.read("dropped") if record.split == "train")
    exam, left = study.evaluate.exam(study.heldout().read("heldout"), trained, study.plan.seed)
    return Lab(study.run, Questions(exam, study.evaluate.lm_eval), keep=study.section.keep_students), left


Waiting = dict[Path, tuple[Student, Ready]]
"""What is ready to train, by the student's folder."""


def _everybody(study: Study, lab: Lab) -> tuple[list[Student], Waiting, int]:
    """Every student of every arm, those of them that are not trained yet, and the tokens each goes through."""
    source = study.sources[study.arms.own]
    first = lab.student(study.own, study.seeds[0], source, study.rows, study.section.tokens)
    waiting: Waiting = {}
    if not lab.known(first) and not lab.adopt(first):
        waiting[first.folder] = first, _prepared(lab, first)
    own = round(waiting[first.folder][1].found.work) if waiting else first.figures["seen"]
    budget = study.section.tokens or own
    students = [student for name in study.arms.all for student in study.students(lab, name, budget)]
    for student in students:
        if student.folder not in waiting and not lab.known(student) and not lab.adopt(student):
            waiting[student.folder] = student, _prepared(lab, student)
    return students, waiting, budget


def _prepared(lab: Lab, student: Student) -> Ready:
    """What is ready to train; what is wrong is told with the arm's name."""
    try:
        return lab.prepare(student)
    except PipelineError as error:
        raise type(error)(f"{student.arm.name}: {error.args[0]}", hint=error.hint) from error


def _train(lab: Lab, waiting: Waiting, total: int) -> None:
    """Train and measure; the measures stay in the lab."""
    work = [ready.found.work for _, ready in waiting.values()]
    console.say(f"{len(waiting)} of {total} students to train, {sum(work):,.0f} tokens in all")
    started = time.monotonic()
    for n, (student, ready) in enumerate(waiting.values()):
        spent = time.monotonic() - started
        more = f", about {console.clock(spent * sum(work[n:]) / sum(work[:n]))} left" if n else ""
        console.say(f"student {n + 1} of {len(waiting)}: {student.arm.name}, seed {student.seed}{more}")
        lab.train(student, ready)
        torch_model.free()  # for the process that measures it
        lab.measure(student)


Named = dict[str, list[tuple[Student, Seen]]]


def _measured(study: Study, lab: Lab, everybody: list[Student]) -> Named:
    """Students by arm, seeds ascending."""
    found: Named = {name: [] for name in study.arms.all}
    for student in everybody:
        found[student.arm.name].append((student, _seen(lab, lab.measure(student))))
    return found


def _seen(lab: Lab, measured: Measured) -> Seen:
    exam = lab.questions.exam
    paper = exam.paper(measured)
    columns = exam.columns(paper, measured)
    return Seen(paper, columns | (tasks(measured["lm_eval"]) if "lm_eval" in measured else {}), measured)


def _aside(study: Study, lab: Lab) -> dict[str, Seen]:
    """Every student before it is trained, and the teacher; one on a server is its held-out answers."""
    found = {"untrained": _seen(lab, lab.untrained(study.own))}
    for name, arm in study.arms.all.items():
        if arm.other_student:
            found[f"untrained {name}"] = _seen(lab, lab.untrained(arm))
    teacher: Engine | None = study.plan.teacher
    if teacher is not None and not teacher.remote:
        found["teacher"] = _seen(lab, lab.teacher(teacher))
    elif teacher is not None:
        exam = lab.questions.exam
        paper = exam.given()
        found["teacher"] = Seen(paper, exam.columns(paper, None), {})
    return found


def _judge(study: Study, job: Job, results: Results) -> None:
    """Scores for everybody; a judge of pairs compares the arms of each contrast, student against student."""
    everybody = [seen for students in results.students.values() for _, seen in students] + [*results.aside.values()]
    if not everybody[0].paper.answers:
        return
    for judge in study.evaluate.judges:
        if isinstance(judge, Judge):
            for seen in everybody:
                scored: Columns = graded(judge, seen.paper, job)
                seen.columns.update(scored)
        else:
            for contrast in study.arms.contrasts:
                pairs = zip(results.students[contrast.first], results.students[contrast.second], strict=True)
                duels: list[Duels] = []
                for (_, one), (_, other) in pairs:
                    papers = {contrast.first: one.paper, contrast.second: other.paper}
                    duels.append(fought(judge, contrast.first, contrast.second, papers, job))
                results.duels.append((contrast, duels))
