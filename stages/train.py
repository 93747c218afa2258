"""train: TRL teaches the student what curation kept."""

import os
import shutil
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import Field

from pipeline import console
from pipeline.component import Knob
from pipeline.engines import Engine
from pipeline.errors import ModelError, PipelineError, UsageError
from pipeline.job import Job
from pipeline.models import find
from pipeline.run import Run
from pipeline.store import Manifest, Tally, VersionWriter
from stages import preflight, tables_train
from stages.base import Inputs, Rows, Stage
from stages.objectives import AnyObjective
from stages.preflight import Preflight
from stages.preflight_rows import teacher_tokens
from stages.student import Student, blank, load


class Train(Stage):
    """Train the student on the rows that were kept; writes `model/` and `metrics.jsonl`."""

    stage: ClassVar[str] = "train"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("curate", "filter", "generate"),)

    student: Student
    objective: AnyObjective
    min_rows: Annotated[int, Field(ge=1, description="refuse to train on fewer")] = 1
    max_cut: Annotated[
        float, Knob(), Field(ge=0, le=1, description="refuse to train when max_length cuts a larger share of the rows")
    ] = 0.05

    def settings(self, seed: int, teacher: Engine | None) -> dict[str, Any]:
        """The student counts by the content of the model it is made from."""
        name, revision = self.student.base(teacher)
        return super().settings(seed, teacher) | {"student": [name, find(name, revision).revision]}

    def models(self, teacher: Engine | None) -> list[tuple[str, str]]:
        """What the student is made from."""
        return [self.student.base(teacher)]

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Train, resuming from the last checkpoint of an interrupted run of the same version."""
        rows = out.path / "rows.jsonl"
        tally = self.write_rows(inputs.rows, rows)
        log = job.run.logs / "train.log"
        console.say(f"loading the student and TRL (log: {log})")
        with console.silenced(log):
            found = self._preflight(job, rows, out.work)
            if found.lost:
                tally.kept, tally.dropped = tally.kept - found.lost, {"answer_cut_off": found.lost}
            trainer, sizes = self._prepare(job, found.data, out.work)
            speed = self._train(trainer, out.work, found)
            model = trainer.model.merge_and_unload() if self.objective.lora else trainer.model
            model.save_pretrained(out.path / "model")
            trainer.processing_class.save_pretrained(out.path / "model")
        history = [row for row in trainer.state.log_history if "loss" in row]
        with (out.path / "metrics.jsonl").open("wb") as file:
            for row in trainer.state.log_history:
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        out.manifest.ledger.append(tally)
        out.manifest.figures = sizes | {
            "rows": tally.kept,
            "steps": trainer.state.global_step,
            "first_loss": history[0]["loss"] if history else None,
            "last_loss": history[-1]["loss"] if history else None,
            "tokens_per_second": speed,
            "preflight": found.figures(),
        }
        out.manifest.notes += [str(f) for f in found.found]
        (out.path / "model" / "README.md").write_text(self._card(job, out.manifest), encoding="utf-8")

    def write_rows(self, rows: Rows, file: Path) -> Tally:
        """The exact rows the trainer reads, as JSONL. Raises PipelineError for fewer than `min_rows`."""
        tally = Tally(step="train")
        with file.open("wb") as sink:
            for record in rows.read("kept"):
                row = self.objective.row(record) | {"id": record.id}
                sink.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                tally.came += 1
                tally.kept += 1
        if tally.kept < self.min_rows:
            raise PipelineError(
                f"there are {tally.kept} rows to train on, and min_rows is {self.min_rows}",
                hint="`pipeline status PLAN` shows where the rows went",
            )
        return tally

    def examine(self, teacher: Engine | None, rows: Path, work: Path) -> Preflight:
        """Look at the rows of a file as they will be fed; loads no weights. Raises UsageError, ModelError."""
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            from datasets import load_dataset

            student = blank(*self.student.base(teacher))
        except ImportError as error:
            raise ModelError(
                f"training needs torch, transformers and trl ({error})", hint="`pipeline doctor`"
            ) from error
        cache = work / "cache"
        data = load_dataset("json", data_files=str(rows), split="train", cache_dir=str(cache))
        return preflight.examine(
            self.objective, student, data, cache / "draft", teacher=teacher_tokens(teacher), max_cut=self.max_cut
        )

    def seconds(self, run: Run, teacher: Engine | None, found: Preflight) -> float | None:
        """How long training will take, by the newest version of the same student and objective; None without one."""
        now = self.settings(0, teacher)
        for version in reversed(run.versions(self.stage)):
            then, speed = version.manifest.settings, version.manifest.figures.get("tokens_per_second")
            if speed and _sort(then) == _sort(now):
                return found.work / float(speed)
        return None

    def _preflight(self, job: Job, rows: Path, work: Path) -> Preflight:
        """Show what will be fed, and refuse what must not be."""
        try:
            found = self.examine(job.teacher, rows, work)
            console.show(tables_train.report(found, self.seconds(job.run, job.teacher, found)))
            found.refuse()
        except UsageError:
            shutil.rmtree(work / "cache", ignore_errors=True)  # nothing to resume from
            raise
        return found

    def _prepare(self, job: Job, data: Any, work: Path) -> tuple[Any, dict[str, Any]]:
        """The trainer over rows that have their tokens, and figures of the models."""
        import torch
        from transformers import set_seed

        from pipeline import machine

        if not torch.cuda.is_available():
            torch.set_num_threads(machine.cores())
        set_seed(job.seed)
        model, tokenizer = load(**self.student.spec(job.teacher))
        sizes: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
        if job.teacher is not None and (whole := _parameters(job.teacher)):
            sizes |= {"teacher_parameters": whole, "ratio": round(whole / sizes["parameters"], 2)}
        try:
            trainer = self.objective.trainer(model, tokenizer, data, work / "checkpoints", job.seed)
        except (ValueError, ImportError) as error:
            raise UsageError(f"TRL refuses these settings: {' '.join(str(error).split())[:400]}") from error
        return trainer, sizes

    def _train(self, trainer: Any, work: Path, found: Preflight) -> float:
        """Train; tokens a second, of the steps made now."""
        checkpoint = _checkpoint(work / "checkpoints")
        begun = int(checkpoint.rpartition("-")[2]) if checkpoint else 0
        started = time.monotonic()
        with console.Bar("train", found.steps) as bar:
            trainer.add_callback(_progress(bar))
            trainer.train(resume_from_checkpoint=checkpoint)
        made = (trainer.state.global_step - begun) / found.steps
        return float(round(made * found.work / (time.monotonic() - started), 1))

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


def _sort(settings: dict[str, Any]) -> list[Any]:
    """What the speed of training depends on most."""
    train = settings["train"]
    return [settings["student"], train["student"], train["objective"]["kind"], train["objective"].get("lora")]


def _parameters(teacher: Engine) -> int:
    from pipeline.models import parameters

    return parameters(teacher.model, teacher.revision)


def _checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; one that was being written when the run was killed is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
    for checkpoint in found:
        try:
            orjson.loads((checkpoint / "trainer_state.json").read_bytes())  # the trainer writes it last
        except (OSError, orjson.JSONDecodeError):
            shutil.rmtree(checkpoint)
            continue
        console.say(f"going on from {checkpoint.name}")
        return str(checkpoint)
    return None


def _progress(bar: console.Bar) -> Any:
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
        """Moves the bar to the trainer's step."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.advance(state.global_step - bar.done)

    return Progress()
