"""The golden folder: a real model's words, replayed, give the expected shards byte for byte."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

HERE = Path(__file__).resolve().parent / "stories"
ROOT = HERE.parent.parent.parent


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden plan, run from another folder over its recording."""
    folder = tmp_path_factory.mktemp("golden")
    shutil.copytree(HERE, folder / "plan")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(folder / "plan/plan.yaml")],
        env=os.environ | {"PIPELINE_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "runs/golden"


@pytest.mark.parametrize("stage", ["generate", "filter"])
def test_shards_are_the_expected_ones_byte_for_byte(replayed: Path, stage: str) -> None:
    """Same plan, same words, same bytes, wherever the plan lies."""
    expected = {f.name: f.read_bytes() for f in (HERE / "expected" / stage).iterdir()}
    made = {f.name: f.read_bytes() for f in replayed.glob(f"{stage}/*/*.jsonl")}
    assert expected
    assert made == expected


def test_the_recording_is_of_real_words(replayed: Path) -> None:
    """Stories were written, some were dropped, and the judge gave more than one score."""
    kept = [orjson.loads(line) for f in replayed.glob("filter/*/kept-*.jsonl") for line in f.open("rb")]
    dropped = [orjson.loads(line) for f in replayed.glob("filter/*/dropped-*.jsonl") for line in f.open("rb")]
    scores = {c["value"] for r in kept + dropped for c in r["checks"] if c["name"] == "judge"}
    assert kept and dropped
    assert len(scores) > 1
