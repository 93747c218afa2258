"""export on the demo model: 8 bits keep what it says, in ONNX and in GGUF."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from pipeline.models import models_home
from pipeline.run import Run
from pipeline.store import Manifest, VersionWriter
from tests.helpers import write_plan

MODEL = models_home() / "smollm2-135m-instruct"
ROWS = Path(__file__).resolve().parents[1] / "golden/stories/expected/filter/kept-00000.jsonl"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not (MODEL / "config.json").is_file(), reason="`make models` has not been run"),
]


def as_student(run: Run) -> None:
    """The demo model as if it had been trained on stories."""
    folder = run.folder_for("train", "a" * 64)
    out = VersionWriter(
        folder, Manifest(stage="train", version=folder.name, fingerprint="a" * 64, settings={}, inputs=[])
    )
    out.begin()
    shutil.copytree(MODEL, folder / "model", ignore=shutil.ignore_patterns("SOURCE.json"))
    (folder / "model/README.md").write_text("---\nlicense: apache-2.0\n---\n# a student\n")
    rows = [orjson.loads(line) for line in ROWS.read_bytes().splitlines()]
    turns = [{"id": r["id"], "prompt": r["messages"][:-1], "completion": r["messages"][-1:]} for r in rows]
    (folder / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, turns)))
    run.set_current(out.seal())


def test_8_bits_say_what_the_student_says(tmp_path: Path) -> None:
    """The same likeliest token at 95 % of the positions and more, in less than a third of the bytes."""
    as_student(Run(tmp_path / "runs/tiny"))
    command = ["pipeline", "export", str(write_plan(tmp_path)), "--format", "onnx_int8,gguf_q8_0", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | {"PIPELINE_RUNS": str(tmp_path / "runs")}, capture_output=True, text=True, check=False,
        timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    forms = {form["form"]: form for form in json.loads(done.stdout)}
    assert forms.keys() == {"onnx_int8", "gguf_q8_0"}
    for form in forms.values():
        assert form["agreement"]["top1"] >= 0.95
        assert form["agreement"]["kl"] < 0.02
        assert form["size"]["bytes"] < form["original"]["bytes"] / 3
    kept = {p.name for p in Path(forms["onnx_int8"]["folder"]).parent.iterdir()}
    assert kept == {"onnx_int8", "gguf_q8_0"}  # the float32 graph it was made from is not
