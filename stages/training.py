"""One student trained on one file of rows: looked at first, resumed where it stopped, in less memory if need be."""

import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline import console, machine, torch_model
from pipeline.engines.exhausted import out_of_memory
from pipeline.errors import ModelError, PipelineError, UsageError
from pipeline.store import write_atomic, write_jsonl
from stages import preflight
from stages.objectives.base import Model, Objective, Teaching
from stages.preflight import Preflight
from stages.student import Named, blank, count, load


class Lesson(NamedTuple):
    """Who learns what from whom."""

    objective: Objective
    student: dict[str, Any]
    """what `stages.student.load` takes"""
    teacher: Named | None
    """the model that teaches beside the rows; None where none does"""
    stored: Any
    """a `stages.objectives.stored.Stored`, where its log-probabilities do"""
    rows: Path
    tokens: frozenset[str] | None
    """control tokens of the model that wrote the rows; None where they are not known"""
    max_cut: float
    seed: int
    work: Path
    """checkpoints and caches: what a killed run goes on from"""


class Taught(NamedTuple):
    """A finished training."""

    figures: dict[str, Any]
    notes: list[str]


class Trained(NamedTuple):
    """One student of a schedule, on disk."""

    name: str
    folder: Path
    """holds `model/`, `figures.json` and `metrics.jsonl`"""
    figures: dict[str, Any]


def examine(lesson: Lesson, seen: Preflight | None = None) -> Preflight:
    """Look at models and rows as they will be; loads no weights. Raises UsageError, ModelError.

    `seen`: what was found of the same student and rows with another teacher; the rows are not looked at again.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from datasets import load_dataset

        attention = lesson.objective.attn_implementation
        student = Model(*blank(**lesson.student, attention=attention))
        teacher = Model(*blank(*lesson.teacher, attention=attention)) if lesson.teacher else None
    except ImportError as error:
        raise ModelError(f"training needs torch, transformers and trl ({error})", hint="`pipeline doctor`") from error
    lesson.objective.require(student, teacher)
    taught_by = count(teacher.model) if teacher else 0
    if seen is not None:
        return seen._replace(teacher_parameters=taught_by)
    cache = lesson.work / "cache"
    data = load_dataset("json", data_files=str(lesson.rows), split="train", cache_dir=str(cache))
    found = preflight.examine(
        lesson.objective, student, data, cache / "draft", teacher=lesson.tokens, max_cut=lesson.max_cut
    )
    more = lesson.objective.examine(found.data, Teaching(stored=lesson.stored))
    return found._replace(found=[*found.found, *more], parameters=count(student.model), teacher_parameters=taught_by)


def teach(lesson: Lesson, found: Preflight, folder: Path, label: str = "train") -> Taught:
    """Train and save: `model/` and `metrics.jsonl` in `folder`, and `adapter/` where there are adapters.

    Goes on from the last checkpoint. Where memory runs out, with batches half as large and twice as many to a step.
    Raises ModelError, UsageError, PipelineError.
    """
    objective, notes = lesson.objective, []
    while True:
        try:
            trainer = _trainer(lesson, objective, found.data)
            speed = _train(trainer, lesson.work / "checkpoints", found, label)
            break
        except Exception as error:
            if not out_of_memory(error):
                raise
            objective = _smaller(objective, error)
        trainer = None  # with the traceback, all that held memory
        torch_model.free()
        notes = [
            f"memory ran out: batches of {objective.per_device_train_batch_size} rows, "
            f"{objective.gradient_accumulation_steps} to a step"
        ]
        console.warn(notes[0])
    _save(trainer, folder)
    write_jsonl(folder / "metrics.jsonl", trainer.state.log_history)
    history = [row for row in trainer.state.log_history if "loss" in row]
    figures = {
        "steps": trainer.state.global_step,
        "first_loss": history[0]["loss"] if history else None,
        "last_loss": history[-1]["loss"] if history else None,
        "tokens_per_second": speed,
    }
    return Taught(figures | objective.figures(trainer), notes)


def step(lesson: Lesson, name: str, folder: Path, seen: Preflight | None = None) -> Trained:
    """One student of a schedule: what an interrupted run has finished is taken as it is. Raises as `teach` does.

    `seen`: as for `examine`.
    """
    report = folder / "figures.json"
    if report.is_file():
        console.say(f"{name}: trained already")
        return Trained(name, folder, orjson.loads(report.read_bytes()))
    lesson = lesson._replace(work=lesson.work / name)
    found = examine(lesson, seen)
    found.refuse()
    taught = teach(lesson, found, folder, name)
    ratio = round(found.teacher_parameters / found.parameters, 2)
    figures = taught.figures | {"parameters": found.parameters, "ratio": ratio, "notes": taught.notes}
    write_atomic(report, orjson.dumps(figures))  # last: it says that the others are whole
    shutil.rmtree(lesson.work, ignore_errors=True)
    return Trained(name, folder, figures)


def _smaller(objective: Objective, error: Exception) -> Any:
    halved = objective.halved()
    if halved is None:
        raise PipelineError(
            f"memory ran out with one row at a time: {' '.join(str(error).split())[:200]}",
            hint="train.objective.lora: {r: 16} needs less, and so does a lower max_length, "
            "config: {gradient_checkpointing: true}, or a smaller student",
        ) from error
    return halved


def _trainer(lesson: Lesson, objective: Objective, data: Any) -> Any:
    """The trainer over rows that have their tokens, with models that have their weights."""
    import torch
    from transformers import set_seed

    if not torch.cuda.is_available():
        torch.set_num_threads(machine.cores())
    set_seed(lesson.seed)
    model, tokenizer = load(**lesson.student, attention=objective.attn_implementation)
    teacher = None
    if lesson.teacher is not None:
        teacher = load(*lesson.teacher, attention=objective.attn_implementation)[0].eval().requires_grad_(False)
    teaching = Teaching(teacher, lesson.stored)
    try:
        return objective.trainer(model, tokenizer, data, lesson.work / "checkpoints", lesson.seed, teaching)
    except UsageError:
        raise
    except (ValueError, ImportError, NotImplementedError) as error:
        raise UsageError(f"TRL refuses these settings: {' '.join(str(error).split())[:400]}") from error


def _train(trainer: Any, checkpoints: Path, found: Preflight, label: str) -> float:
    """Train; tokens a second, of the steps made now."""
    checkpoint = _checkpoint(checkpoints)
    begun = int(checkpoint.rpartition("-")[2]) if checkpoint else 0
    started = time.monotonic()
    with console.Bar(label, found.steps) as bar:
        trainer.add_callback(_progress(bar))
        trainer.train(resume_from_checkpoint=checkpoint)
    made = (trainer.state.global_step - begun) / found.steps
    return float(round(made * found.work / (time.monotonic() - started), 1))


def _save(trainer: Any, folder: Path) -> None:
    """Whole weights, adapters merged into them, and the adapters by themselves."""
    model = trainer.model
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(folder / "adapter")
        model = model.merge_and_unload()
    model.save_pretrained(folder / "model")
    trainer.processing_class.save_pretrained(folder / "model")


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
