"""What a student of some of the demo model's layers learns from the whole of it, by every objective but the on-policy
ones: on its own words, with the log-probabilities that it stored while it wrote them."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import models_home
from pipeline.store import Version
from stages import flow
from stages.plan import load
from tests.helpers import record, write_plan

TEACHER = "demo:smollm2-135m-instruct"
TRAIN: dict[str, Any] = {
    "num_train_epochs": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 4, "max_length": 160,
    "config": {"logging_steps": 1},
}  # fmt: skip
LAST = {"layers": [[1, 15], [2, 29]]}
STUDENT = {"init": {"layers": [0, 1, 29]}}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan whose teacher has written eight stories."""
    folder = tmp_path_factory.mktemp("objectives")
    write(folder, {"kind": "sft", **TRAIN})
    make(folder, "generate")
    return folder


def write(folder: Path, objective: dict[str, Any], **train: Any) -> None:
    """The plan with an objective."""
    generate = {
        "source": {"kind": "grid", "axes": {"prompt": [f"Tell me about animal number {n}." for n in range(9)]}},
        "task": {"kind": "respond"},
        "truncated": "keep",
        "heldout": 0.2,
        "sampling": {"max_tokens": 40, "top_logprobs": 20},
    }
    teacher = {"kind": "transformers", "model": TEACHER, "max_model_len": 512}
    stage = {"student": STUDENT, "objective": objective} | train
    write_plan(folder, teacher=teacher, generate=generate, train=stage)


def make(folder: Path, stage: str, **options: Any) -> Version:
    """Run one stage of it."""
    from pipeline.run import Run

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    (version,) = flow.run_stages(load(folder / "plan.yaml"), Run(folder / "run"), [stage], flow.Options(**options))
    return version


def losses(version: Version) -> list[dict[str, Any]]:
    """What was logged at each step."""
    import orjson

    rows = [orjson.loads(line) for line in (version.path / "metrics.jsonl").read_bytes().splitlines()]
    return [row for row in rows if "loss" in row]


def test_soft_labels_live_and_stored(folder: Path) -> None:
    """At temperature 1 what was stored, 20 tokens of 49,152 a place, is nearly what the teacher says itself."""
    found = {}
    for stored in (False, True):
        write(folder, {"kind": "soft_label", "temperature": 1, "stored": stored, **TRAIN})
        version = make(folder, "train")
        found[stored] = losses(version)
        assert found[stored][-1]["loss"] < found[stored][0]["loss"]
    live, offline = (found[stored][0] for stored in (False, True))
    assert offline["kd"] <= live["kd"] * 1.01
    assert offline["kd"] == pytest.approx(live["kd"], rel=0.25)
    (note,) = (note for note in version.manifest.notes if "stored log-probabilities" in note)
    assert float(note.split("%")[0]) > 90
    assert version.manifest.figures["teacher_parameters"] == 134_515_008


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "sft"},
        {"kind": "soft_label", "divergence": "skew_rkl", "lora": {"r": 8}},
        {"kind": "feature", "features": LAST, "alpha": 0.5},
        {"kind": "attention", "attention": LAST},
        {"kind": "attention", "attention": LAST | {"of": "relations", "relation_heads": 3}, "alpha": 0.5},
    ],
    ids=lambda objective: objective["kind"],
)
def test_an_objective(folder: Path, objective: dict[str, Any]) -> None:
    """Its loss falls, and each part of it is there."""
    write(folder, objective | TRAIN)
    version = make(folder, "train")
    first, *_, last = losses(version)
    assert last["loss"] < first["loss"]
    parts = [name for name in first if name == "kd" or name.startswith(("feature", "attention"))]
    assert len(parts) == bool(objective.get("alpha", objective["kind"] == "soft_label")) + 2 * (
        objective["kind"] in ("feature", "attention")
    )
    assert all(first[part] > 0 for part in parts)
    assert (version.path / "model/model.safetensors").is_file()
    assert (version.path / "adapter").is_dir() == ("lora" in objective)


def test_step_by_step(folder: Path) -> None:
    """Two rows of every record that holds its reasoning."""
    lines = [
        record("A fox.", prompt=f"Which animal is number {n}?", id=f"r{n}").model_copy(
            update={"reasoning": "It is red, it lives in the wood, and it is clever: that is a fox."}
        )
        for n in range(4)
    ]
    file = folder / "reasoned.jsonl"
    file.write_bytes(b"".join(one.line() for one in lines))
    write(folder, {"kind": "step_by_step", **TRAIN})
    version = make(folder, "train", input=str(file))
    assert version.manifest.figures["rows"] == 4 and version.manifest.figures["preflight"]["rows"] == 8
    found = losses(version)
    assert found[-1]["loss"] < found[0]["loss"]


@pytest.mark.parametrize(
    "schedule",
    [
        {"kind": "born_again", "generations": 2},
        {"kind": "cascade", "through": [{"init": {"layers": [0, 1, 10, 20, 29]}}]},
    ],
    ids=lambda schedule: schedule["kind"],
)
def test_a_schedule(folder: Path, schedule: dict[str, Any]) -> None:
    """The student of the last step is there, and what led to it beside it."""
    write(folder, {"kind": "soft_label", **TRAIN, "num_train_epochs": 1}, schedule=schedule)
    version = make(folder, "train")
    figures = version.manifest.figures["schedule"]
    assert (version.path / "model/model.safetensors").is_file() and len(list((version.path / "steps").iterdir())) == 1
    if schedule["kind"] == "born_again":
        assert {"generation-1", "generation-2", "ensemble"} == set(figures["heldout_perplexity"])
    else:
        assert figures["kept"] == "step-2"
