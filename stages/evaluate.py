"""evaluate: teacher, untrained and trained student side by side on held-out prompts."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from filters.judge import Judge
from pipeline import console
from pipeline.engines import Engine, Sampling
from pipeline.errors import UsageError
from pipeline.job import Job
from pipeline.models import cached, find
from pipeline.records import Record
from pipeline.store import Version, VersionWriter, write_jsonl
from stages import child
from stages.base import Inputs, Stage
from stages.evaluate_figures import Measured, Results, figures, outputs
from stages.exam import Exam, failures, heldout
from stages.scores.human import Human
from stages.scores.judged import AnyJudge, fought, graded, outscored
from stages.scores.leaks import trained_prompts
from stages.scores.probes import Probe
from stages.scores.tasks import LmEval, items, tasks
from stages.student import Student

NAMED = 20  # ids of left-out prompts in the manifest


class Evaluate(Stage):
    """Teacher, untrained and trained student on held-out prompts: quality with intervals, speed, memory, answers."""

    stage: ClassVar[str] = "evaluate"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("filter", "generate"), ("train",))

    rows: Annotated[int, Field(ge=1, description="held-out answers to measure perplexity on, at most")] = 200
    answers: Annotated[int, Field(ge=0, description="prompts of those that every model answers, at most")] = 24
    samples: Annotated[int, Field(ge=0, description="answers to read side by side in samples.jsonl")] = 8
    sampling: Annotated[Sampling, Field(description="of every model's answers")] = Sampling(
        temperature=0.7, top_p=0.95, max_tokens=160
    )
    human: Annotated[Human | None, Field(description="texts that people wrote, for perplexity")] = None
    probes: Annotated[list[Probe], Field(description="prompts whose answers are checked")] = []
    lm_eval: Annotated[LmEval | None, Field(description="tasks of lm-evaluation-harness")] = None
    judges: Annotated[list[AnyJudge], Field(description="kinds judge and pairwise, as in filter.rules")] = []

    @field_validator("judges")
    @classmethod
    def _labels_differ(cls, judges: list[AnyJudge]) -> list[AnyJudge]:
        labels = [judge.label for judge in judges]
        for judge in judges:
            if labels.count(judge.label) > 1:
                raise ValueError(f"two judges are called {judge.label!r}: give one a `name`")
            if not isinstance(judge, Judge) and judge.reference:
                raise ValueError(
                    f"{judge.label}: the models' answers are compared with each other: leave `reference` out"
                )
        return judges

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The judges' engines."""
        return [engine for judge in self.judges for engine in judge.asks(teacher)]

    def settings(self, seed: int, teacher: Engine | None) -> dict[str, Any]:
        """The teacher is measured too."""
        return super().settings(seed, teacher) | {"teacher": teacher.identity() if teacher else None}

    def prepare(self, job: Job, inputs: Inputs) -> None:
        """Refuse what cannot be measured before a model is loaded."""
        if importlib.util.find_spec("sacrebleu") is None:
            raise UsageError(
                "evaluate needs sacrebleu, which is not installed", hint="pip install 'pipeline[evaluate]'"
            )
        if self.lm_eval is not None and importlib.util.find_spec("lm_eval") is None:
            hint = "pip install 'pipeline[harness]', or leave evaluate.lm_eval out"
            raise UsageError("evaluate.lm_eval needs lm-evaluation-harness, which is not installed", hint=hint)
        for judge in self.judges:
            if not judge.asks(job.teacher):
                raise UsageError(f"evaluate.judges: {judge.label} has no engine, and the plan has no teacher")
        if self.human is not None:
            self.human.texts()

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """One process per model, the same prompts for all; then the judges."""
        trained = inputs.versions["train"]
        exam, left = self.exam(inputs.rows.read("heldout"), _known(trained), job.seed)
        job.close_engines()  # what is measured has the machine to itself
        measured = self._measure(job, trained, exam)
        papers = {name: exam.paper(one) for name, one in measured.items()}
        if job.teacher is not None and job.teacher.remote:
            papers = {"teacher": exam.given()} | papers
        results = Results(papers, measured)
        for name, paper in papers.items():
            results.add(name, exam.columns(paper, measured.get(name)))
        harness = self._tasks(job, trained, results)
        self._judge(job, results)
        found = out.manifest.figures = figures(results, job.seed)
        found["leaks"] = {"rows": len(left), "ids": left[:NAMED]}
        if self.lm_eval is not None:
            found["lm_eval"] = {"version": harness["version"], **self.lm_eval.job()}
        write_jsonl(out.path / "scores.jsonl", found["models"])
        rows = outputs(results, exam.texts, self.probes, items(harness))
        write_jsonl(out.path / "outputs.jsonl", rows)
        first = [row for row in rows if row["sort"] == "prompt"][: self.samples]
        said = [{key: row[key] for key in ("id", "prompt", "heldout")} | row["answers"] for row in first]
        write_jsonl(out.path / "samples.jsonl", said if results.papers["trained"].answers else [])
        for note in self._notes(job, results, harness, left):
            out.manifest.notes.append(note)
            console.warn(note)

    def exam(self, records: Iterable[Record], trained: set[str], seed: int) -> tuple[Exam, list[str]]:
        """What every model is asked, and the ids of held-out records that were `trained` on. Raises PipelineError."""
        examples, left = heldout(records, trained, self.rows)
        asked = min(max(self.answers, self.samples), len(examples))
        texts = self.human.texts() if self.human else []
        return Exam(examples, asked, texts, self.probes, self.sampling, seed), left

    def _measure(self, job: Job, trained: Version, exam: Exam) -> dict[str, Measured]:
        models = self._models(job, trained)
        log = job.run.logs / "evaluate.log"
        measured: dict[str, Measured] = {}
        with console.Bar("evaluate", len(models) * exam.steps) as bar:
            for name, model in models.items():
                found = exam.sit(model, bar, log)
                measured[name] = found | {"disk": _weights(name, trained, job.teacher)}
        return measured

    def _tasks(self, job: Job, trained: Version, results: Results) -> dict[str, Any]:
        """Every model on the tasks; what the last one answered says which items there are."""
        found: dict[str, Any] = {"tasks": {}}
        if self.lm_eval is None:
            return found
        models = self._models(job, trained)
        with console.Bar("lm_eval", len(models)) as bar:
            for name, model in models.items():
                asked = self.lm_eval.job() | {"model": model, "seed": job.seed}
                found = child.ask("stages.harness", asked, bar, job.run.logs / "evaluate.log")
                results.add(name, tasks(found))
        return found

    def _models(self, job: Job, trained: Version) -> dict[str, dict[str, Any]]:
        """What to measure, as `stages.student.load` takes it."""
        student = Student.model_validate(trained.manifest.settings["train"]["student"])
        models = {
            "untrained": student.spec(job.teacher),
            "trained": {"model": str((trained.path / "model").resolve())},
        }
        if job.teacher is None or job.teacher.remote:  # a teacher on a server cannot be measured here
            return models
        return {"teacher": {"model": job.teacher.model, "revision": job.teacher.revision}} | models

    def _judge(self, job: Job, results: Results) -> None:
        """Scores for everybody, and duels of the trained student with the others."""
        if not results.papers["trained"].answers:
            return
        others = [name for name in ("untrained", "teacher") if name in results.papers]
        for judge in self.judges:
            if isinstance(judge, Judge):
                scores = {name: graded(judge, paper, job) for name, paper in results.papers.items()}
                for name, columns in scores.items():
                    results.add(name, columns)
                (own,) = scores["trained"].values()
                duels = [outscored(judge, "trained", other, own, *scores[other].values()) for other in others]
            else:
                duels = [fought(judge, "trained", other, results.papers, job) for other in others]
            for fight in duels:
                results.duels.append(fight)
                results.add("trained", {fight.metric: fight.column})

    def _notes(self, job: Job, results: Results, harness: dict[str, Any], left: list[str]) -> list[str]:
        """What to know before trusting the figures."""
        notes = [note for judge in self.judges for note in judge.notes(job.teacher)]
        if left:
            named = ", ".join(left[:3]) + (" ..." if len(left) > 3 else "")
            notes.append(f"{len(left)} held-out rows ask what was trained on and are left out: {named}")
        for name, task in harness["tasks"].items():
            if task["left"]:
                notes.append(f"lm_eval {name}: {', '.join(task['left'])} is no mean over items, and is left out")
        for name, one in results.measured.items():
            notes += failures(name, one)
        return notes


def _known(trained: Version) -> set[str]:
    """Digests of the prompts of a training's rows."""
    objective = trained.manifest.settings["train"]["objective"]
    prefixes = [objective[key] for key in ("answer_prefix", "reasoning_prefix") if key in objective]
    return trained_prompts(trained.path / "rows.jsonl", prefixes)


def _weights(name: str, trained: Version, teacher: Engine | None) -> int:
    """Bytes of safetensors on disk; 0 for the untrained student, which is not stored."""
    if name == "untrained":
        return 0
    folder = trained.path / "model"
    if name == "teacher" and teacher is not None:
        found = find(teacher.model, teacher.revision)
        folder = Path(found.where) if found.local else cached(teacher.model, teacher.revision) or Path()
    return sum(f.stat().st_size for f in folder.glob("*.safetensors"))
