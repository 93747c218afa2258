"""Preference distillation on the demo model: four of its layers learn from it what they would have said otherwise."""

import json
from pathlib import Path

import pytest

from pipeline.models import models_home
from pipeline.run import Run
from stages import flow
from stages.plan import load
from tests.helpers import write_plan

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]
DEMO = "demo:smollm2-135m-instruct"
TALKS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "Name a colour.": "Blue.",
    "Is the sea salty?": "Yes, the sea is salty.",
    "How many legs has a fox?": "A fox has four legs.",
}


def test_a_cut_student_learns_from_its_own_mistakes(tmp_path: Path) -> None:
    """It is asked, its answers are rejected, the whole model is the reference, and the student is on disk."""
    objective = {
        "kind": "dpkd", "loss_type": ["sigmoid_norm", "sft"], "sampling": {"max_tokens": 12}, "max_length": 64,
        "num_train_epochs": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-4,
    }  # fmt: skip
    path = write_plan(
        tmp_path, teacher={"kind": "transformers", "model": DEMO},
        train={"student": {"init": {"layers": [0, 9, 19, 29]}}, "objective": objective},
    )  # fmt: skip
    source = tmp_path / "talks.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": ask, "completion": said}) for ask, said in TALKS.items()))
    run = Run(tmp_path / "run")
    (version,) = flow.run_stages(load(path), run, ["train"], flow.Options(input=str(source)))
    figures, usage = version.manifest.figures, version.manifest.usage
    assert (figures["rows"], figures["steps"], usage["asked"]) == (4, 2, 4)
    assert figures["teacher_parameters"] > figures["parameters"]
    assert {"reward_accuracy", "reward_margin"} <= figures.keys()
    rows = [json.loads(line) for line in (version.path / "rows.jsonl").open(encoding="utf-8")]
    assert [row["chosen"][0]["content"] for row in rows] == list(TALKS.values())
    assert all(row["rejected"][0]["content"].strip() and row["rejected"] != row["chosen"] for row in rows)
    assert json.loads((version.path / "model/config.json").read_text())["num_hidden_layers"] == 4
