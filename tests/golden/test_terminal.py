"""On a terminal: a live bar while it works, the tables at the end."""

import os
import pty
import sys
from pathlib import Path

PLAN = Path(__file__).resolve().parent / "stories/plan.yaml"
ROOT = PLAN.parent.parent.parent.parent


def on_a_terminal(command: list[str], environment: dict[str, str]) -> tuple[str, int]:
    """Everything a command writes to a new pseudo-terminal, and its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execvpe(command[0], command, environment)
    said = b""
    while True:
        try:
            block = os.read(terminal, 4096)
        except OSError:  # the terminal is gone with the child
            break
        if not block:
            break
        said += block
    _, status = os.waitpid(child, 0)
    return said.decode(), os.waitstatus_to_exitcode(status)


def test_a_run_shows_its_progress_and_its_funnel(tmp_path: Path) -> None:
    """Bars and tables reach a terminal, even one that does not tell its size."""
    command = [sys.executable, "-m", "pipeline", "run", str(PLAN)]
    said, code = on_a_terminal(command, os.environ | {"PIPELINE_RUNS": str(tmp_path), "TERM": "xterm"})
    assert code == 0, said
    assert "\x1b[2K" in said
    assert "14/14" in said
    assert "Funnel" in said
    assert "low_score" in said
