"""Versions without their stages: of whatever a test needs, a student that nobody has trained, a recorded plan's."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.records import Record
from pipeline.run import Run
from pipeline.store import Input, Manifest, Version, VersionWriter, write_jsonl
from stages import flow
from stages.plan import Plan, load

Content = bytes | Iterable[Mapping[str, Any]]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
METRICS = [{"name": "perplexity", "label": "perplexity, held out"}, {"name": "bits_per_byte", "label": "bits/byte"}]
MOMENT = "2026-11-20T10:00:00+00:00"


def begin(run: Run, stage: str, *, of: Iterable[Version | Path] = (), **manifest: Any) -> VersionWriter:
    """The next version of a stage, to be filled; `of`: the versions and files that it follows from."""
    run.create()
    made = {"fingerprint": f"{len(run.folders(stage)) + 1:08x}" * 8, "settings": {}, "inputs": list(map(_input, of))}
    made |= manifest
    folder = run.folder_for(stage, str(made["fingerprint"]))
    out = VersionWriter(folder, Manifest.model_validate({"stage": stage, "version": folder.name} | made))
    out.begin()
    return out


def _input(given: Version | Path) -> Input:
    if isinstance(given, Path):
        return Input(stage="file", version=str(given), fingerprint="f" * 64)
    return Input(stage=given.manifest.stage, version=given.name, fingerprint=given.manifest.fingerprint)


def end(run: Run, out: VersionWriter) -> Version:
    """The version, current from now on."""
    version = out.seal()
    run.set_current(version)
    return version


def seal(
    run: Run, stage: str, rows: Iterable[Record] = (), files: Mapping[str, Content] | None = None, **how: Any
) -> Version:
    """A version of these rows with `files` beside its shards, each bytes or lines of JSON; `how`: as `begin` says."""
    out = begin(run, stage, **how)
    for row in rows:
        out.write(row)
    for name, content in (files or {}).items():
        file = out.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content) if isinstance(content, bytes) else write_jsonl(file, content)
    return end(run, out)


def golden(name: str, home: Path) -> tuple[Plan, Run]:
    """A recorded plan with all its stages run, and the run's folder."""
    plan = load(GOLDEN / name / "plan.yaml")
    run = Run(home / plan.name)
    flow.run_stages(plan, run, list(plan.stages()), flow.Options())
    return plan, run


def current(run: Run, stage: str) -> Version:
    """The current version of a stage, which there is."""
    version = run.current(stage)
    assert version is not None
    return version


def student(run: Run, base: str = "Qwen/Qwen2.5-0.5B-Instruct", **figures: Any) -> Version:
    """A train version over the run's filtered rows, with weights that are none."""
    settings = {
        "seed": 7,
        "student": [base, "abc"],
        "train": {
            "student": {"model": base, "revision": "", "init": None},
            "objective": {"kind": "sft", "learning_rate": 1e-5, "num_train_epochs": 2},
            "schedule": None,
        },
    }
    known = {"parameters": 494_000_000, "rows": 3, "steps": 12, "first_loss": 2.5, "last_loss": 1.25}
    files = {
        "model/model.safetensors": b"weights",
        "model/config.json": b'{"model_type": "qwen2"}',
        "model/training_args.bin": b"a pickle",
        "model/README.md": b"the card of the trainer",
    }
    read = [current(run, "filter")]
    return seal(run, "train", files=files, of=read, settings=settings, figures=known | figures, finished=MOMENT)


def scores(run: Run, **trained: Any) -> Version:
    """An evaluation of the current student; perplexity has an interval."""
    rows = [{"model": "teacher", "perplexity": 5.25}, {"model": "trained", "perplexity": 12.5} | trained]
    rows[1]["intervals"] = {"perplexity": [11.5, 13.5]}
    figures = {"rows": 19, "models": rows, "metrics": METRICS}
    return seal(run, "evaluate", of=[current(run, "train")], figures=figures, finished=MOMENT)
