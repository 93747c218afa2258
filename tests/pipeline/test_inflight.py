"""The file that tells one process what another one crashed over."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engines import Request
from pipeline.engines.inflight import InFlight
from pipeline.records import Message

CHILD = """
import ctypes, os, sys
from pathlib import Path
from pipeline.engines import Request
from pipeline.engines.inflight import InFlight
from pipeline.records import Message

def ask(word): return Request(id=word, messages=(Message(role="user", content=word),))

noted = InFlight(Path(sys.argv[1]))
for word in "abc": noted.enter(ask(word))
noted.leave(ask("b"))
if sys.argv[2] == "segfault": ctypes.string_at(0)
if sys.argv[2] == "abort": os.abort()
if sys.argv[2] == "kill": os.kill(os.getpid(), 9)
noted.close()
"""


def end(path: Path, how: str) -> int:
    """A process that ends so with a and c in its engine."""
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(path), how], check=False, stderr=subprocess.DEVNULL
    ).returncode


def suspected(path: Path) -> str:
    """Who is suspected afterwards."""
    found = InFlight(path)
    found.close()
    return "".join(w for w in "abc" if found.suspected(Request(id=w, messages=(Message(role="user", content=w),))))


@pytest.mark.parametrize(("how", "signum"), [("segfault", signal.SIGSEGV), ("abort", signal.SIGABRT)])
def test_a_fault_in_native_code_leaves_suspects(tmp_path: Path, how: str, signum: int) -> None:
    """What was in the engine when the process crashed is known, and what had come out is not suspected."""
    path = tmp_path / "vllm.inflight"
    assert end(path, how) == -signum
    assert suspected(path) == "ac"
    assert not path.exists(), "an orderly end removes the file"


def test_being_killed_leaves_nobody_suspected(tmp_path: Path) -> None:
    """kill -9 says nothing about the requests under way."""
    path = tmp_path / "vllm.inflight"
    assert end(path, "kill") == -signal.SIGKILL
    assert path.exists()
    assert suspected(path) == ""


def test_an_orderly_end_leaves_nothing(tmp_path: Path) -> None:
    """The file is gone with the process that ended by itself."""
    assert end(tmp_path / "vllm.inflight", "close") == 0
    assert not list(tmp_path.iterdir())


def test_the_limit_of_an_answer_is_part_of_what_is_suspected(tmp_path: Path) -> None:
    """The same question under another max_tokens is another request."""
    asked = Request(id="a", messages=(Message(role="user", content="a"),))
    noted = InFlight(tmp_path / "vllm.inflight")
    noted.enter(asked)
    noted.give_up("test")
    noted.close()
    longer = asked.model_copy(update={"sampling": asked.sampling.model_copy(update={"max_tokens": 9})})
    again = InFlight(tmp_path / "vllm.inflight")
    assert (again.guilty(asked), again.guilty(longer)) == (True, False)
    again.close()
