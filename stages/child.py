"""Work in a process of its own: a job goes in as one JSON line, JSON lines come out, and it ends when its parent does.

`{"advance": n}` as it goes, then `{"result": {...}}` or, for an error with a message for people, `{"error": ...}`.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from pipeline import console
from pipeline.errors import ModelError, PipelineError

Advance = Callable[[int], None]
"""Is told how much more is done."""
Work = Callable[[dict[str, Any], Advance], dict[str, Any]]
"""What a child does: from a job to its result."""


def ask(module: str, job: dict[str, Any], bar: console.Bar, log: Path) -> dict[str, Any]:
    """The result of `python -m module`, whose own talk goes to `log`. Raises ModelError where it fails."""
    last: dict[str, Any] = {}
    with log.open("ab") as sink:
        child = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink
        )
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(orjson.dumps(job, option=orjson.OPT_APPEND_NEWLINE))
            child.stdin.flush()
            for line in child.stdout:
                last = orjson.loads(line)
                bar.advance(last.get("advance", 0))
            child.wait()
        except BrokenPipeError:
            pass  # it is gone: its log says why
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
            with contextlib.suppress(BrokenPipeError):  # what it did not read is lost with it
                child.stdin.close()
    if "result" in last:
        return dict(last["result"])
    if "error" in last:
        raise ModelError(last["error"], hint=last["hint"])
    words = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise ModelError(f"{module} ended without a result: {' '.join(words)[:300]}", hint=f"see {log}")


def serve(work: Work) -> None:
    """The child's side: read the job, work, report."""
    job = orjson.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    report = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever libraries print goes to the log with stderr

    def tell(row: dict[str, Any]) -> None:
        report.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    try:
        tell({"result": work(job, lambda n: tell({"advance": n}))})
    except PipelineError as error:
        tell({"error": error.args[0], "hint": error.hint})


def _end_with_parent() -> None:
    while os.read(0, 1 << 16):  # not through `sys.stdin`, whose lock the interpreter wants when it ends
        pass
    os._exit(1)
