"""A reader of stdout that stops reading, as `head` and pagers do, is no failure; and it hides none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.test_cli import ROOT, finished, pipeline
from tests.stages.conftest import recorded, workshop

__all__ = ["finished", "recorded", "workshop"]  # fixtures


def env() -> dict[str, str]:
    """As it is at this moment, with this project's modules."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}


def unread(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and stderr of a command whose reader has gone before the first word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env=env(),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("status", "plan.yaml"),
        ("check", "plan.yaml"),
        ("schema",),
        ("filter", "plan.yaml", "--explain", "-q"),
        ("show", "plan.yaml", "generate", "-n", "9", "--json"),
        ("verify", "plan.yaml", "-q"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_nobody_has_to_read(finished: Path, words: tuple[str, ...]) -> None:
    """Exit code 0, whether it prints words, a table, or JSON; and not a word about it."""
    assert unread(finished, "-m", "pipeline", *words) == (0, "")


def test_a_failure_stays_one(finished: Path) -> None:
    """What is wrong is told on stderr and by the exit code, read or not."""
    (manifest,) = (finished / "runs/tiny/filter").glob("*/manifest.json")
    made = json.loads(manifest.read_text())
    (manifest.parent / made["shards"][0]["file"]).write_text("")
    assert unread(finished, "-m", "pipeline", "verify", "plan.yaml", "-q")[0] == 1
    assert unread(finished, "-m", "pipeline", "show", "plan.yaml", "nothing")[0] == 2


PRINTS = (
    "from pipeline.cli_pager import paged\nimport sys, itertools\nwith paged({}):\n    {}\nprint('after')\nsys.exit(3)"
)


def test_what_only_prints_ends_with_its_reader(tmp_path: Path) -> None:
    """Endless output ends; what has more to do goes on to its own exit code."""
    assert unread(tmp_path, "-c", PRINTS.format("", "for n in itertools.count(): print(n)")) == (0, "")
    assert unread(tmp_path, "-c", PRINTS.format("ends=False", "for n in range(10**5): print(n)")) == (3, "")


@pytest.mark.parametrize("within", ["print('가', flush=True)", "sys.stdout.buffer.write('가\\n'.encode())"])
def test_what_is_read_comes_whole(tmp_path: Path, within: str) -> None:
    """In the order in which it was written, in the encoding that stdout had."""
    code = f"import sys; print('before'); {PRINTS.format('', within).replace('import sys, itertools', '')}"
    code = code.replace("; from", "\nfrom")
    done = subprocess.run([sys.executable, "-c", code], env=env(), capture_output=True,
                          check=False)  # fmt: skip
    assert (done.returncode, done.stdout.decode(), done.stderr) == (3, "before\n가\nafter\n", b"")


def test_kinds_as_json(tmp_path: Path) -> None:
    """Every default can be written: paths, and numbers that are keys."""
    found = json.loads(pipeline(tmp_path, "kinds", "filter", "--json").stdout)
    defaults = {(c["kind"], s["name"]): s["default"] for c in found for s in c["settings"]}
    assert str(defaults["pairwise", "prompt"]).endswith("judge/pair.md")
    assert defaults["repetition", "max_top"]["2"] > 0


def test_a_full_disk_is_told() -> None:
    """Where stdout is a file that takes no more there is a message, not a traceback."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-m", "pipeline", "schema"], env=env(), stdout=full, text=True,
                              stderr=subprocess.PIPE, check=False)  # fmt: skip
    assert done.returncode == 1 and "No space left" in done.stderr and "Traceback" not in done.stderr
