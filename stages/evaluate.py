"""evaluate: teacher, untrained and trained student side by side on held-out prompts."""

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import Field

from pipeline import console
from pipeline.engines import Engine, Sampling
from pipeline.errors import ModelError, PipelineError
from pipeline.job import Job
from pipeline.models import find
from pipeline.store import Version, VersionWriter
from stages.base import Inputs, Stage
from stages.student import Student


class Evaluate(Stage):
    """Perplexity on held-out teacher answers, tokens per second, memory, and samples; writes `scores.jsonl`."""

    stage: ClassVar[str] = "evaluate"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("filter", "generate"), ("train",))

    rows: Annotated[int, Field(ge=1, description="held-out answers to measure perplexity on, at most")] = 200
    samples: Annotated[int, Field(ge=0, description="held-out prompts every model answers")] = 8
    sampling: Sampling = Sampling(temperature=0.7, top_p=0.95, max_tokens=160)

    def settings(self, seed: int, teacher: Engine | None) -> dict[str, Any]:
        """The teacher is measured too."""
        return super().settings(seed, teacher) | {"teacher": teacher.identity() if teacher else None}

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """One process per model, the same rows for all."""
        heldout = list(islice(inputs.rows.read("heldout"), self.rows))
        if not heldout:
            raise PipelineError(
                "there are no held-out records to evaluate on",
                hint="set generate.heldout above 0, or loosen the filters that dropped them",
            )
        trained = inputs.versions["train"]
        models = self._models(job, trained)
        conversations = [[m.model_dump() for m in r.messages] for r in heldout]
        scores = []
        with console.Bar("evaluate", len(models) * (len(conversations) + 1)) as bar:
            for name, model in models.items():
                task = {"model": model, "seed": job.seed, "conversations": conversations,
                        "samples": self.samples, "sampling": self.sampling.model_dump()}  # fmt: skip
                result = _measure(task, bar, job.run.logs / "evaluate.log")
                scores.append({"model": name, **result, "disk": _weights(name, trained, job.teacher)})
        samples = [s.pop("samples") for s in scores]
        _write(out.path / "scores.jsonl", scores)
        rows = [
            {"id": r.id, "prompt": r.prompt, "heldout": r.answer}
            | {s["model"]: texts[i] for s, texts in zip(scores, samples, strict=True)}
            for i, r in enumerate(heldout[: self.samples])
        ]
        _write(out.path / "samples.jsonl", rows)
        out.manifest.figures = {"rows": len(heldout), "models": scores}

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


def _measure(task: dict[str, Any], bar: console.Bar, log: Path) -> dict[str, Any]:
    with log.open("ab") as sink:
        child = subprocess.Popen(
            [sys.executable, "-m", "stages.measure"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink
        )
        assert child.stdin is not None and child.stdout is not None
        result: dict[str, Any] | None = None
        try:
            child.stdin.write(orjson.dumps(task, option=orjson.OPT_APPEND_NEWLINE))
            child.stdin.flush()
            for line in child.stdout:
                row = orjson.loads(line)
                bar.advance(row.get("advance", 0))
                result = row.get("result", result)
            child.wait()
        finally:
            child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()
    if result is None:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ModelError(f"cannot measure {task['model']['model']}: {' '.join(last)[:300]}", hint=f"see {log}")
    return result


def _weights(name: str, trained: Version, teacher: Engine | None) -> int:
    """Bytes of safetensors on disk; 0 for the untrained student, which is not stored."""
    if name == "untrained":
        return 0
    folder = trained.path / "model"
    if name == "teacher" and teacher is not None:
        folder = Path(find(teacher.model, teacher.revision).where)
    return sum(f.stat().st_size for f in folder.glob("*.safetensors"))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
