"""why, diff and show from the command line: what goes where, and who may stop reading."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.test_cli import ROOT, finished, pipeline
from tests.stages.conftest import recorded, workshop

__all__ = ["finished", "recorded", "workshop"]  # fixtures


def kept(folder: Path) -> str:
    """The id of a kept row."""
    shown = pipeline(folder, "show", "plan.yaml", "filter", "-n", "1", "--columns", "id", "--json")
    return str(json.loads(shown.stdout)["id"])


def test_why(finished: Path) -> None:
    """The story as text or as one JSON object; an id that is not there is wrong use, and says where ids are."""
    name = kept(finished)
    said = pipeline(finished, "why", "plan.yaml", name[:8])
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(name) and "min_chars 5" in said.stdout
    story = json.loads(pipeline(finished, "why", "plan.yaml", name, "--json").stdout)
    assert [at["fate"] for at in story["stages"]] == ["kept", "kept"]
    wrong = pipeline(finished, "why", "plan.yaml", "nothing")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no record" in wrong.stderr and "hint: `pipeline show" in wrong.stderr


def test_diff(finished: Path) -> None:
    """Versions by stage and ordinal, the second by its ordinal alone, or both with --stage."""
    assert pipeline(finished, "filter", "plan.yaml", "--set", "filter.rules.0.min_chars=500").returncode == 0
    for words in (["filter/1", "filter/0002"], ["filter/1", "2"], ["1", "2", "--stage", "filter"]):
        done = pipeline(finished, "diff", "plan.yaml", *words)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert "filter.rules.0.min_chars: 5 -> 500" in done.stdout and "kept -> length: too_short" in done.stdout
    found = json.loads(pipeline(finished, "diff", "plan.yaml", "filter/1", "2", "--json").stdout)
    assert sum(group["rows"] for group in found["groups"]) + found["same"] == 6
    wrong = pipeline(finished, "diff", "plan.yaml", "filter/1", "9")
    assert wrong.returncode == 2 and "filter has no version 9" in wrong.stderr


def test_show_in_columns(finished: Path) -> None:
    """A table with the names on top; with --json one object a line that holds nothing else."""
    table = pipeline(finished, "show", "plan.yaml", "filter", "--columns", "id, scores.length,answer").stdout
    assert table.splitlines()[0].split() == ["id", "scores.length", "answer"]
    lines = pipeline(finished, "show", "plan.yaml", "filter", "--columns", "id,scores.length", "--json").stdout
    assert [list(json.loads(line)) for line in lines.splitlines()] == [["id", "scores.length"]] * len(
        lines.splitlines()
    )
    wrong = pipeline(finished, "show", "plan.yaml", "filter", "--columns", "scores.lenght")
    assert wrong.returncode == 2 and "did you mean scores.length?" in wrong.stderr


def test_show_a_sample(finished: Path) -> None:
    """As many rows as asked for; the plan's seed unless another is given."""
    words = ["show", "plan.yaml", "generate", "--sample", "3", "--columns", "id", "--json"]
    drawn = [pipeline(finished, *words, *more).stdout for more in ([], ["--seed", "3"], ["--seed", "4"])]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0].splitlines()) == 3


@pytest.mark.parametrize(
    "words",
    [["show", "plan.yaml", "filter"], ["show", "plan.yaml", "filter", "--json"],
     ["show", "plan.yaml", "filter", "--columns", "id"], ["diff", "plan.yaml", "filter/1", "filter/1"],
     ["why", "plan.yaml", "ID"], ["why", "plan.yaml", "ID", "--json"]],
    ids=" ".join,
)  # fmt: skip
def test_whoever_reads_may_stop(finished: Path, words: list[str]) -> None:
    """A reader that is gone, as `head` and `less` may be, is no failure: exit code 0, and not a word about it."""
    words = [kept(finished) if word == "ID" else word for word in words]
    gone, writing = os.pipe()
    os.close(gone)
    command = [sys.executable, "-m", "pipeline", *words]
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(command, cwd=finished, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=closed,
                              stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
