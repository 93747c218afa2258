"""verify, bundle and unbundle from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages import whole
from tests.stages.conftest import Workshop
from tests.stages.sealed import current

pytest.importorskip("safetensors")
ROOT = Path(__file__).resolve().parents[2]


def pipeline(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder whose runs are in `runs/`."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PIPELINE_RUNS": str(folder / "runs"), "COLUMNS": "100"}
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """A whole run."""
    here = tmp_path / "here"
    here.mkdir()
    return whole.make(here)


def test_verify_says_what_it_looked_at(shop: Workshop) -> None:
    """0 and "whole" on stdout; 1 with what, where and what to do once something is wrong."""
    done = pipeline(shop.folder, "verify", "plan.yaml")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "whole"
    assert done.stdout.startswith("4 versions: ") and "46 rows" in done.stdout and "files verified: " in done.stderr
    shard = current(shop.run, "filter").path / "kept-00000.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"fox", b"fix") + b"\n\x1b[31m\n")
    done = pipeline(shop.folder, "verify", "plan.yaml", "--quiet")
    assert done.returncode == 1 and "problem" in done.stdout and "\x1b" not in done.stdout
    assert done.stderr.startswith("error: ") and "is not whole: filter/0001-" in done.stderr
    assert "files verified" not in done.stderr and "hint: delete the folder" in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_verify_for_machines(shop: Workshop) -> None:
    """The same as JSON."""
    whole = json.loads(pipeline(shop.folder, "verify", "plan.yaml", "--all", "--json", "-q").stdout)
    assert whole["whole"] is True and whole["findings"] == [] and len(whole["versions"]) == 4
    (shop.run.path / "lock.json").write_text("{")
    done = pipeline(shop.folder, "verify", "plan.yaml", "--json")
    (finding,) = json.loads(done.stdout)["findings"]
    assert done.returncode == 1 and (finding["sort"], finding["where"]) == ("problem", "lock.json")
    assert finding["todo"].startswith("delete ")


def test_a_bundle_travels(shop: Workshop, tmp_path: Path) -> None:
    """From one folder to another; what is printed last is the next command, and it says done."""
    done = pipeline(shop.folder, "bundle", "plan.yaml", "--to", "../t.tar.gz")
    assert (done.returncode, done.stdout) == (0, "../t.tar.gz\n"), done.stderr
    assert "sha256 " in done.stderr and "pipeline unbundle t.tar.gz --to FOLDER" in done.stderr
    there = tmp_path / "there"
    there.mkdir()
    done = pipeline(there, "unbundle", "../t.tar.gz", "--to", "plan", "--json", "-q")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["states"] == {"generate": "up to date", "filter": "up to date"}
    assert found["next"] == "pipeline status plan/plan.yaml" and found["models"] == []
    done = pipeline(there, *found["next"].split()[1:], "--json")
    assert [row["state"] for row in json.loads(done.stdout)] == ["done", "done"]
    done = pipeline(there, "run", "plan/plan.yaml")
    assert "generate: up to date" in done.stderr and "filter: up to date" in done.stderr
    done = pipeline(there, "unbundle", "../t.tar.gz", "--to", "other")
    assert done.returncode == 2 and "is there already" in done.stderr and not (there / "other").exists()


def test_a_bundle_without_the_memo(shop: Workshop) -> None:
    """Said on stderr, and in what machines read."""
    done = pipeline(shop.folder, "bundle", "plan.yaml", "--to", "t.tar", "--without-memo", "--json")
    assert "asked again" in json.loads(done.stdout)["notes"][0]
    done = pipeline(shop.folder, "unbundle", "t.tar", "--to", "x", "-q")
    assert done.returncode == 2 and "PIPELINE_RUNS" in done.stderr
