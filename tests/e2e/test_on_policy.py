"""A student made of some of the demo model's layers, taught on its own answers by the whole of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.models import models_home
from tests.helpers import write_plan

ROOT = Path(__file__).resolve().parent.parent.parent
TEACHER = "demo:smollm2-135m-instruct"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]


def train(folder: Path) -> None:
    """`pipeline train` of the plan in `folder`."""
    places = {"PYTHONPATH": str(ROOT), "PIPELINE_MODELS": str(models_home().resolve()), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "train", "plan.yaml", "--input", "rows.jsonl", "--quiet"],
        cwd=folder, env=os.environ | places, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_student_of_some_layers_learns_on_its_own_answers(tmp_path: Path) -> None:
    """Two steps of gkd over six rows; the student is saved, and wrote some of the answers itself, not all."""
    objective = {
        "kind": "gkd", "lmbda": 0.5, "num_train_epochs": 1, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-4, "max_length": 96, "max_completion_length": 16,
        "config": {"logging_steps": 1},
    }  # fmt: skip
    section = {"student": {"init": {"layers": [0, 1, 29]}}, "objective": objective}
    write_plan(tmp_path, teacher={"kind": "vllm", "model": TEACHER}, train=section)
    lines = [{"prompt": f"Name animal number {n}.", "completion": "A fox that lives near the river."} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    train(tmp_path)
    (manifest,) = (json.loads(file.read_text()) for file in tmp_path.glob("**/train/*/manifest.json"))
    figures = manifest["figures"]
    assert (figures["steps"], figures["rows"]) == (2, 6)
    assert figures["teacher_parameters"] > 3 * figures["parameters"]
    assert 1 <= figures["answer_tokens"] <= 16
    (metrics,) = tmp_path.glob("**/train/*/metrics.jsonl")
    steps = [row for row in map(json.loads, metrics.open()) if "loss" in row]
    assert 0 < sum(row["own_answers"] for row in steps) < len(steps) == 2
    assert all(row["loss"] > 0.05 for row in steps)
    (saved,) = tmp_path.glob("**/train/*/model")
    assert {"model.safetensors", "config.json", "tokenizer_config.json"} <= {file.name for file in saved.iterdir()}
