"""Per-record rules in several processes: the same rows in the same order, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from filters.length import Length
from filters.repetition import Repetition
from filters.words import Words
from pipeline.errors import DataError
from pipeline.store import Tally
from stages import workers
from stages.intake import Raw
from stages.workers import Passed, Sieve, sifted
from tests.helpers import record

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = [Length(min_chars=12), Words(banned=("robot",)), Repetition()]


def lines(n: int) -> list[Raw]:
    """Rows, some of them too short, some with a banned word, some both, some broken."""
    texts = ["short", "a robot", "A robot who is long enough.", "A good answer that passes.", "Again and again. " * 30]
    made = [
        Raw(record(f"{texts[i % 5]} {i}" if i % 5 != 4 else texts[4], id=f"r{i}").line(), f"f:{i}") for i in range(n)
    ]
    return [Raw(b"{", raw.where) if i % 97 == 5 else raw for i, raw in enumerate(made)]


def run(n: int, processes: int, *, everything: bool = False) -> tuple[list[Passed], Tally, list[Tally]]:
    """All rows and tallies."""
    read, tallies = Tally(step="read"), [Tally(step=rule.label) for rule in RULES]
    sieve = Sieve(RULES, everything)
    rows = [row for chunk in sifted(iter(lines(n)), sieve, processes, read, tallies) for row in chunk]
    return rows, read, tallies


@pytest.mark.parametrize("everything", [False, True])
def test_two_processes_say_what_one_says(monkeypatch: pytest.MonkeyPatch, everything: bool) -> None:
    """Rows, their order and every count are the same, and every row is accounted for."""
    monkeypatch.setattr(workers, "WORTH", 512)
    one, two = run(3000, 1, everything=everything), run(3000, 2, everything=everything)
    assert one == two
    rows, read, tallies = two
    assert len(rows) == read.came == 3000
    assert [t.came for t in tallies] == [read.kept, tallies[0].kept, tallies[1].kept]
    assert all(t.came == t.kept + sum(t.dropped.values()) for t in (read, *tallies))


def test_everything_is_measured_where_wanted() -> None:
    """With `everything` a dropped row has every rule's check; its reason is the first rule's."""
    first, all_ = run(20, 1)[0], run(20, 1, everything=True)[0]
    short = orjson.loads(all_[1].line)
    assert (short["by"], [c["name"] for c in short["checks"]][-3:]) == ("length", ["length", "words", "repetition"])
    assert [(r.id, r.shard) for r in first] == [(r.id, r.shard) for r in all_]
    assert len(orjson.loads(first[1].line)["checks"]) == 2


def test_a_row_of_a_version_that_is_no_record_is_an_error() -> None:
    """In a version of this project a broken line is damage, not data; the error comes out of a worker as it is."""
    read, tallies = Tally(step="read"), [Tally(step=rule.label) for rule in RULES]
    with pytest.raises(DataError, match="a row that is no record"):
        list(sifted(iter([Raw(b"{}")]), Sieve(RULES), 1, read, tallies))
    rows = [Raw(record("A fine answer, this.", id=str(n)).line()) for n in range(8000)] + [Raw(b"{}")]
    with pytest.raises(DataError, match="a row that is no record"):
        list(sifted(iter(rows), Sieve(RULES), 2, read, tallies))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_is_left_behind(tmp_path: Path, how: signal.Signals) -> None:
    """However the main process ends, its workers end, too."""
    (tmp_path / "rows.jsonl").write_bytes(
        b"".join(record("A fine answer. " * 40, id=str(n)).line() for n in range(40000))
    )
    (tmp_path / "plan.yaml").write_text(
        "name: left\nfilter: {workers: 2, rules: [{kind: length}, {kind: repetition}]}\n"
    )
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "filter",
        str(tmp_path / "plan.yaml"),
        "--input",
        str(tmp_path / "rows.jsonl"),
    ]
    child = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PIPELINE_RUNS": str(tmp_path / "runs")}, stderr=subprocess.DEVNULL
    )
    family: list[int] = []
    deadline = time.monotonic() + 60
    while len(family) < 2 and child.poll() is None and time.monotonic() < deadline:
        family = offspring(child.pid)
        time.sleep(0.05)
    assert len(family) >= 2, "the workers were never there"
    child.send_signal(how)
    child.wait(timeout=30)
    deadline = time.monotonic() + 15
    while (left := [pid for pid in family if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def offspring(pid: int) -> list[int]:
    """Processes whose parent is `pid` and that run Python's spawned workers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and b"spawn_main" in command:
            found.append(int(status.parent.name))
    return found
