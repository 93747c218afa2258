"""Work in a process of its own: what comes back, what fails, and that nothing is left running."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import console
from pipeline.errors import ModelError
from stages import child

MODULE = "tests.stages.children"


def test_a_job_comes_back_as_a_result(tmp_path: Path) -> None:
    """Text of any size goes through; progress reaches the bar; what a library prints goes to the log."""
    log, text = tmp_path / "log", "친구 \u2028" * 50_000
    with console.Bar("test", 2) as bar:
        assert child.ask(MODULE, {"do": "answer", "text": text}, bar, log) == {"twice": text * 2}
        assert bar.done == 2
    assert log.read_text() == "talk of a library\n"


def test_an_error_for_people_stays_one(tmp_path: Path) -> None:
    """Its message and its hint are the child's."""
    with pytest.raises(ModelError, match="no such model") as caught:
        child.ask(MODULE, {"do": "fail"}, console.Bar("test", 2), tmp_path / "log")
    assert caught.value.hint == "find one"


def test_a_crash_names_the_log(tmp_path: Path) -> None:
    """The last line of the log is the reason; the whole traceback is there."""
    with pytest.raises(ModelError, match="ended without a result: ZeroDivisionError: a defect") as caught:
        child.ask(MODULE, {"do": "crash"}, console.Bar("test", 2), tmp_path / "log")
    assert str(tmp_path / "log") in caught.value.hint


def test_a_child_ends_with_its_parent() -> None:
    """When nobody holds its stdin any more, it is gone in a moment."""
    running = subprocess.Popen([sys.executable, "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert running.stdin is not None and running.stdout is not None
    running.stdin.write(b'{"do": "sleep"}\n')
    running.stdin.flush()
    assert running.stdout.readline()
    started = time.monotonic()
    running.stdin.close()
    assert running.wait(timeout=30) == 1
    assert time.monotonic() - started < 20
    running.stdout.close()
