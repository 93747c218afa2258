"""evaluate: teacher, untrained and trained student side by side on held-out prompts."""

import importlib.util
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import Field, field_validator

from filters.judge import Judge
from filters.verdicts import before_answer
from pipeline import console
from pipeline.engines import Engine, Sampling
from pipeline.errors import PipelineError, UsageError
from pipeline.job import Job
from pipeline.models import find
from pipeline.records import Record
from pipeline.store import Version, VersionWriter
from stages import child
from stages.base import Inputs, Stage
from stages.evaluate_figures import Measured, Results, figures, outputs
from stages.scores import FAMILIES
from stages.scores.base import Example, Loss, Paper
from stages.scores.human import Human, Text
from stages.scores.judged import AnyJudge, fought, graded, outscored
from stages.scores.leaks import leaked, trained_prompts
from stages.scores.likelihood import human
from stages.scores.probes import Probe, probed
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
        examples, left = self._examples(inputs, trained)
        texts = self.human.texts() if self.human else []
        job.close_engines()  # what is measured has the machine to itself
        measured = self._measure(job, trained, examples, texts)
        papers = {name: self._paper(one, examples) for name, one in measured.items()}
        if job.teacher is not None and job.teacher.remote:
            own = [x.references[0] for x in examples[: self._asked(examples)]]
            papers = {"teacher": Paper(examples, own, own=True)} | papers
        results = Results(papers, measured)
        for name, paper in papers.items():
            for family in FAMILIES:
                results.add(name, family(paper))
        for name, one in measured.items():
            read = zip(one["texts"], texts, strict=True)
            results.add(name, human([Loss(nats, tokens, len(text.said.encode())) for (nats, tokens), text in read]))
            results.add(name, probed(self.probes, [said["text"] for said in one["probes"]]))
        harness = self._tasks(job, trained, results)
        self._judge(job, results)
        found = out.manifest.figures = figures(results, job.seed)
        found["leaks"] = {"rows": len(left), "ids": left[:NAMED]}
        if self.lm_eval is not None:
            found["lm_eval"] = {"version": harness["version"], **self.lm_eval.job()}
        _lines(out.path / "scores.jsonl", found["models"])
        rows = outputs(results, texts, self.probes, items(harness))
        _lines(out.path / "outputs.jsonl", rows)
        first = [row for row in rows if row["sort"] == "prompt"][: self.samples]
        said = [{key: row[key] for key in ("id", "prompt", "heldout")} | row["answers"] for row in first]
        _lines(out.path / "samples.jsonl", said if results.papers["trained"].answers else [])
        for note in self._notes(job, results, harness, left):
            out.manifest.notes.append(note)
            console.warn(note)

    def _examples(self, inputs: Inputs, trained: Version) -> tuple[list[Example], list[str]]:
        """Held-out prompts with their answers, and the ids of records whose prompt was trained on."""
        objective = trained.manifest.settings["train"]["objective"]
        prefixes = [objective[key] for key in ("answer_prefix", "reasoning_prefix") if key in objective]
        known = trained_prompts(trained.path / "rows.jsonl", prefixes)
        left: list[str] = []

        def sound() -> Any:
            for record in inputs.rows.read("heldout"):
                if leaked(record, known):
                    left.append(record.id)
                elif record.answer and record.messages[-1].role == "assistant":
                    yield record

        found: dict[bytes, list[Record]] = {}
        for record in islice(sound(), self.rows):
            key = orjson.dumps([turn.model_dump() for turn in before_answer(record)])
            found.setdefault(key, []).append(record)
        if not found:
            if left:
                raise PipelineError(
                    f"all {len(left)} held-out prompts are among the training rows, so nothing can be evaluated",
                    hint="hold out by prompt: give the source more different rows",
                )
            raise PipelineError(
                "there are no held-out records to evaluate on",
                hint="set generate.heldout above 0, or loosen the filters that dropped them",
            )
        return [Example(records[0], tuple(r.answer for r in records)) for records in found.values()], left

    def _asked(self, examples: list[Example]) -> int:
        return min(max(self.answers, self.samples), len(examples))

    def _measure(self, job: Job, trained: Version, examples: list[Example], texts: list[Text]) -> dict[str, Measured]:
        turns = [[m.model_dump() for m in before_answer(x.record)] for x in examples]
        said = [[{"role": "assistant", "content": reference} for reference in x.references] for x in examples]
        task: dict[str, Any] = {
            "seed": job.seed,
            "conversations": [[*asked, last] for asked, lasts in zip(turns, said, strict=True) for last in lasts],
            "texts": [text.task for text in texts],
            "asked": turns[: self._asked(examples)],
            "probes": [[turn.model_dump() for turn in probe.messages] for probe in self.probes],
            "sampling": self.sampling.model_dump(),
        }
        models = self._models(job, trained)
        steps = sum(len(task[part]) for part in ("conversations", "texts", "asked", "probes"))
        log = job.run.logs / "evaluate.log"
        measured: dict[str, Measured] = {}
        with console.Bar("evaluate", len(models) * steps) as bar:
            for name, model in models.items():
                found = child.ask("stages.measure", task | {"model": model}, bar, log)
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

    def _paper(self, measured: Measured, examples: list[Example]) -> Paper:
        """What a model wrote, the losses of several answers to one prompt taken together."""
        rest = iter(measured["losses"])
        losses = []
        for x in examples:
            parts = list(islice(rest, len(x.references)))
            size = sum(len(reference.encode()) for reference in x.references)
            losses.append(Loss(sum(nats for nats, _ in parts), sum(tokens for _, tokens in parts), size))
        said = measured["answers"]
        return Paper(examples, [a["text"] for a in said], [a["ended"] for a in said], losses)

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
            if failed := [said["error"] for said in (*one["answers"], *one["probes"]) if said["error"]]:
                notes.append(f"{name} could not answer {len(failed)} prompts, which count as empty: {failed[0]}")
        return notes


def _weights(name: str, trained: Version, teacher: Engine | None) -> int:
    """Bytes of safetensors on disk; 0 for the untrained student, which is not stored."""
    if name == "untrained":
        return 0
    folder = trained.path / "model"
    if name == "teacher" and teacher is not None:
        folder = Path(find(teacher.model, teacher.revision).where)
    return sum(f.stat().st_size for f in folder.glob("*.safetensors"))


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
