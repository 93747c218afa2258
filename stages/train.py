"""train: TRL teaches the student what curation kept."""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import Field

from pipeline import console
from pipeline.engines import Engine
from pipeline.errors import ModelError, PipelineError, UsageError
from pipeline.job import Job
from pipeline.models import find
from pipeline.store import Manifest, Tally, VersionWriter
from stages.base import Inputs, Rows, Stage
from stages.objectives import AnyObjective
from stages.student import Student, load


class Train(Stage):
    """Train the student on the rows that were kept; writes `model/` and `metrics.jsonl`."""

    stage: ClassVar[str] = "train"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("curate", "filter", "generate"),)

    student: Student
    objective: AnyObjective
    min_rows: Annotated[int, Field(ge=1, description="refuse to train on fewer")] = 1

    def settings(self, seed: int, teacher: Engine | None) -> dict[str, Any]:
        """The student counts by the content of the model it is made from."""
        name, revision = self.student.base(teacher)
        return super().settings(seed, teacher) | {"student": [name, find(name, revision).revision]}

    def models(self, teacher: Engine | None) -> list[tuple[str, str]]:
        """What the student is made from."""
        return [self.student.base(teacher)]

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Train, resuming from the last checkpoint of an interrupted run of the same version."""
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        rows = self._write_rows(inputs.rows, out)
        log = job.run.logs / "train.log"
        console.say(f"loading the student and TRL (log: {log})")
        with console.silenced(log):
            trainer, sizes = self._prepare(job, rows, out.work)
            steps = _count_steps(trainer)
            with console.Bar("train", steps) as bar:
                trainer.add_callback(_progress(bar))
                trainer.train(resume_from_checkpoint=_checkpoint(out.work / "checkpoints"))
            model = trainer.model.merge_and_unload() if self.objective.lora else trainer.model
            model.save_pretrained(out.path / "model")
            trainer.processing_class.save_pretrained(out.path / "model")
        history = [row for row in trainer.state.log_history if "loss" in row]
        with (out.path / "metrics.jsonl").open("wb") as file:
            for row in trainer.state.log_history:
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        out.manifest.figures = sizes | {
            "rows": out.manifest.ledger[0].kept,
            "steps": trainer.state.global_step,
            "first_loss": history[0]["loss"] if history else None,
            "last_loss": history[-1]["loss"] if history else None,
        }
        (out.path / "model" / "README.md").write_text(self._card(job, out.manifest), encoding="utf-8")

    def _write_rows(self, rows: Rows, out: VersionWriter) -> Path:
        """The exact rows the trainer reads, beside the version."""
        file = out.path / "rows.jsonl"
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
        out.manifest.ledger.append(tally)
        return file

    def _prepare(self, job: Job, rows: Path, work: Path) -> tuple[Any, dict[str, Any]]:
        try:
            import torch
            from datasets import load_dataset
            from transformers import set_seed
        except ImportError as error:
            raise ModelError(
                f"training needs torch, transformers and trl ({error})", hint="`pipeline doctor`"
            ) from error
        from pipeline import machine

        if not torch.cuda.is_available():
            torch.set_num_threads(machine.cores())
        set_seed(job.seed)
        data = load_dataset("json", data_files=str(rows), split="train", cache_dir=str(work / "cache"))
        model, tokenizer = load(**self.student.spec(job.teacher))
        sizes: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
        if job.teacher is not None and (whole := _parameters(job.teacher)):
            sizes |= {"teacher_parameters": whole, "ratio": round(whole / sizes["parameters"], 2)}
        columns = data.remove_columns("id")
        try:
            trainer = self.objective.trainer(model, tokenizer, columns, work / "checkpoints", job.seed)
        except (ValueError, ImportError) as error:
            raise UsageError(f"TRL refuses these settings: {' '.join(str(error).split())[:400]}") from error
        return trainer, sizes

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


def _parameters(teacher: Engine) -> int:
    from pipeline.models import parameters

    return parameters(teacher.model, teacher.revision)


def _count_steps(trainer: Any) -> int:
    args = trainer.args
    if args.max_steps > 0:
        return int(args.max_steps)
    batches: int = -(-len(trainer.get_train_dataloader()) // args.gradient_accumulation_steps)
    return max(1, round(batches * float(args.num_train_epochs)))


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
