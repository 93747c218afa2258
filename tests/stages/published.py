"""Runs to publish: a recorded one with a judge and pairs, and a student that nobody has trained."""

from pathlib import Path
from typing import Any

from pipeline.run import Run
from pipeline.store import Input, Manifest, Version, VersionWriter
from stages import flow
from stages.plan import Plan, load

METRICS = [{"name": "perplexity", "label": "perplexity, held out"}, {"name": "bits_per_byte", "label": "bits/byte"}]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def golden(name: str, home: Path) -> tuple[Plan, Run]:
    """A recorded plan with all its stages run, and the run's folder."""
    plan = load(GOLDEN / name / "plan.yaml")
    run = Run(home / plan.name)
    flow.run_stages(plan, run, list(plan.stages()), flow.Options())
    return plan, run


def student(run: Run, base: str = "Qwen/Qwen2.5-0.5B-Instruct", **figures: Any) -> Version:
    """A train version over the run's filtered rows, with weights that are none."""
    rows = run.current("filter")
    assert rows is not None
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
    out = writer(run, "train", "a" * 64, settings, [rows], known | figures)
    model = out.path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "config.json").write_text('{"model_type": "qwen2"}')
    (model / "training_args.bin").write_bytes(b"a pickle")
    (model / "README.md").write_text("the card of the trainer")
    return seal(run, out)


def scores(run: Run, **trained: Any) -> Version:
    """An evaluation of the current student; perplexity has an interval."""
    taught = run.current("train")
    assert taught is not None
    rows = [{"model": "teacher", "perplexity": 5.25}, {"model": "trained", "perplexity": 12.5} | trained]
    rows[1]["intervals"] = {"perplexity": [11.5, 13.5]}
    return seal(run, writer(run, "evaluate", "b" * 64, {}, [taught], {"rows": 19, "models": rows, "metrics": METRICS}))


def writer(
    run: Run, stage: str, print_: str, settings: dict[str, Any], read: list[Version | Path], figures: dict[str, Any]
) -> VersionWriter:
    """A version to fill, made from versions or files."""
    folder = run.folder_for(stage, print_)
    inputs = [
        Input(stage="file", version=str(v), fingerprint="f" * 64)
        if isinstance(v, Path)
        else Input(stage=v.manifest.stage, version=v.name, fingerprint=v.manifest.fingerprint)
        for v in read
    ]
    manifest = Manifest(
        stage=stage, version=folder.name, fingerprint=print_, settings=settings, inputs=inputs, figures=figures,
        finished="2026-11-20T10:00:00+00:00",
    )  # fmt: skip
    out = VersionWriter(folder, manifest)
    out.begin()
    return out


def seal(run: Run, out: VersionWriter) -> Version:
    """The version, current from now on."""
    version = out.seal()
    run.set_current(version)
    return version
