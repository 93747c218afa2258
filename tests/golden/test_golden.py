"""The golden folders: a real model's words, replayed, give the expected shards byte for byte."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.golden.record import ROOT, folders

each_folder = pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)


def replay(folder: Path, scratch: Path) -> Path:
    """A golden plan, run from another folder over its recording."""
    shutil.copytree(folder, scratch / "plan")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(scratch / "plan/plan.yaml")],
        env=os.environ | {"PIPELINE_RUNS": str(scratch / "runs"), "PYTHONPATH": str(ROOT)},
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = (scratch / "runs").iterdir()
    return made


@each_folder
def test_shards_are_the_expected_ones_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    """Same plan, same words, same bytes, wherever the plan lies."""
    made = replay(folder, tmp_path)
    expected = {f"{f.parent.name}/{f.name}": f.read_bytes() for f in (folder / "expected").glob("*/*.jsonl")}
    found = {f"{f.parent.parent.name}/{f.name}": f.read_bytes() for f in made.glob("*/*/*.jsonl")}
    assert expected
    assert found == expected


@each_folder
def test_every_row_is_accounted_for(folder: Path) -> None:
    """Something was kept or dropped for a reason, and what was dropped says by whom."""
    files = list((folder / "expected/generate").glob("*.jsonl"))
    rows = [(file.name, orjson.loads(line)) for file in files for line in file.open("rb")]
    assert rows
    assert all(bool(row["by"]) == bool(row["reason"]) == name.startswith("dropped") for name, row in rows)
    assert not any(row["detail"] == "not in the recording" for _, row in rows)


def test_the_recording_is_of_real_words() -> None:
    """Stories were written, some were dropped, and the judge gave more than one score."""
    made = next(folder for folder in folders() if folder.name == "stories") / "expected/filter"
    kept = [orjson.loads(line) for file in made.glob("kept-*.jsonl") for line in file.open("rb")]
    dropped = [orjson.loads(line) for file in made.glob("dropped-*.jsonl") for line in file.open("rb")]
    scores = {c["value"] for r in kept + dropped for c in r["checks"] if c["name"] == "judge"}
    assert kept and dropped
    assert len(scores) > 1
