"""The command line: data on stdout, talk on stderr, exit codes that mean something."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import _arguments
from tests.helpers import stub_model, write_plan
from tests.stages.conftest import Workshop, recorded, workshop

__all__ = ["recorded", "workshop"]  # fixtures
ROOT = Path(__file__).resolve().parents[2]


def pipeline(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *words]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def finished(workshop: Workshop, recorded: Callable[..., None]) -> Path:
    """A folder whose plan has run its two stages."""
    rules = [{"kind": "length", "min_chars": 5}, {"kind": "exact"}]
    write_plan(workshop.folder, filter={"rules": rules})
    recorded("generate")
    workshop.make("generate", "filter")
    return workshop.folder


def test_a_run_talks_on_stderr_only(finished: Path) -> None:
    """`run` has nothing to say on stdout; with --json the manifests stand there; --quiet is silent."""
    done = pipeline(finished, "run", "plan.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert "generate: up to date" in done.stderr and "filter: up to date" in done.stderr
    done = pipeline(finished, "run", "plan.yaml", "--json", "--quiet")
    assert done.stderr == ""
    assert [manifest["stage"] for manifest in json.loads(done.stdout)] == ["generate", "filter"]


def test_status_as_json(finished: Path) -> None:
    """Every stage with its state, version and counts."""
    rows = json.loads(pipeline(finished, "status", "plan.yaml", "--json").stdout)
    assert [(row["stage"], row["state"]) for row in rows] == [("generate", "done"), ("filter", "done")]
    assert rows[1]["counts"]["dropped"] == 1


def test_show_gives_rows(finished: Path) -> None:
    """Kept rows, dropped rows of one reason, and rows a condition holds for, one JSON object a line."""
    shown = pipeline(finished, "show", "plan.yaml", "filter", "-n", "2", "--json").stdout.splitlines()
    assert len(shown) == 2 and all(json.loads(line)["by"] == "" for line in shown)
    (dropped,) = pipeline(
        finished, "show", "plan.yaml", "filter", "--dropped", "duplicate", "--json"
    ).stdout.splitlines()
    assert json.loads(dropped)["reason"] == "duplicate"
    counts = []
    for condition in ("scores.length > 5 and meta->>'prompt' like '%number%'", "answer like '%nobody said this%'"):
        found = pipeline(finished, "show", "plan.yaml", "filter", "-n", "99", "--where", condition, "--json")
        assert found.returncode == 0, found.stderr
        counts.append(len(found.stdout.splitlines()))
    (manifest,) = (finished / "runs/tiny/filter").glob("*/manifest.json")
    assert counts == [json.loads(manifest.read_text())["counts"]["kept"], 0]
    wrong = pipeline(finished, "show", "plan.yaml", "filter", "--where", "scores.nothing > 1")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--where" in wrong.stderr and "scores.length" in wrong.stderr


def test_an_unknown_reason_is_refused(finished: Path) -> None:
    """`--dropped` with a reason nothing was dropped for lists those there are."""
    done = pipeline(finished, "show", "plan.yaml", "filter", "--dropped", "low_score")
    assert (done.returncode, done.stdout) == (2, "")
    assert "duplicate" in done.stderr


def test_a_damaged_version_exits_with_one(finished: Path) -> None:
    """Data that is not what its manifest says is a failure, told in words with what to do."""
    (shard,) = (finished / "runs/tiny/generate").glob("*/kept-00000.jsonl")
    shard.write_bytes(shard.read_bytes()[:-10])
    done = pipeline(finished, "show", "plan.yaml", "generate", "--json")
    assert done.returncode == 1
    assert "does not match its manifest" in done.stderr and "hint: delete the folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["show", "p", "filter", "--dropped"], ["show", "p", "filter", "--dropped=*"]),
        (["show", "--dropped", "-n", "3", "p", "filter"], ["show", "--dropped=*", "-n", "3", "p", "filter"]),
        (["show", "p", "filter", "--dropped", "echo"], ["show", "p", "filter", "--dropped", "echo"]),
        ([], []),
    ],
)
def test_dropped_may_stand_without_a_reason(given: list[str], meant: list[str]) -> None:
    """`--dropped` alone means any reason."""
    assert _arguments(given) == meant


def test_a_missing_extra_is_one_message(tmp_path: Path) -> None:
    """Without numpy, curate says what is missing and leaves nothing begun."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    model = stub_model(tmp_path / "model")
    (tmp_path / "plan.yaml").write_text(f"name: bare\ncurate: {{keep: 1, embed: {{model: {model}}}}}\n")
    code = "import sys; sys.modules['numpy'] = None; from pipeline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "curate", str(tmp_path / "plan.yaml"), "--input", str(tmp_path / "rows.jsonl")],
        env=os.environ | {"PIPELINE_RUNS": str(tmp_path / "runs")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "numpy is not installed" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "runs/bare/curate").glob("*"))
