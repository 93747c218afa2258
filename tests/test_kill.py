"""kill -9 at any moment: the rerun finishes, the shards are the same bytes, and little is asked again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SIDE_BY_SIDE = 16
PLAN = """\
name: killed
teacher: {{kind: openai, model: scripted, base_url: "{url}", concurrency: {side_by_side}, backoff: 0.05}}
generate:
  source: {{kind: jsonl, path: seeds.jsonl}}
  task: {task}
  sampling: {{max_tokens: 64}}
filter:
  rules: [{{kind: length}}, {{kind: exact}}]
"""


def start(folder: Path, runs: Path) -> subprocess.Popen[bytes]:
    """`pipeline run`, in the background."""
    command = [sys.executable, "-m", "pipeline", "run", str(folder / "plan.yaml"), "--quiet"]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PIPELINE_RUNS": str(runs)}, stdout=subprocess.DEVNULL)


def shards(runs: Path) -> dict[str, bytes]:
    """All shards of all sealed versions."""
    sealed = [m.parent for m in sorted(runs.glob("killed/*/*/manifest.json"))]
    return {str(f.relative_to(runs)): f.read_bytes() for v in sealed for f in sorted(v.glob("*.jsonl"))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "prompts", "requests", "kills"),
    [("{kind: respond}", 160, 160, 50), ("{kind: dialogue, turns: 3, min_turns: 3}", 40, 200, 12)],
    ids=["one question each", "five rounds each"],
)
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, task: str, prompts: int, requests: int, kills: int) -> None:
    """At random points of generation, some of them in the filter stage or before the first request."""
    log = tmp_path / "asked.jsonl"
    command = [sys.executable, "-m", "tests.scripted_server", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        (tmp_path / "plan.yaml").write_text(PLAN.format(url=url, side_by_side=SIDE_BY_SIDE, task=task))
        rows = [f'{{"prompt": "{"ERROR" if n % 40 == 7 else "question"} {n}"}}\n' for n in range(prompts)]
        (tmp_path / "seeds.jsonl").write_text("".join(rows))
        try:
            assert start(tmp_path, tmp_path / "whole").wait(timeout=60) == 0
            expected = shards(tmp_path / "whole")
            asked_once = log.read_bytes().count(b"\n")
            assert asked_once == requests + prompts // 40  # the failures were tried again
            draw = random.Random(0)
            for n in range(kills):
                before, runs = log.read_bytes().count(b"\n"), tmp_path / f"killed{n}"
                kill_after(tmp_path, runs, log, before + draw.randrange(requests + 8))
                assert start(tmp_path, runs).wait(timeout=60) == 0
                assert shards(runs) == expected
                assert log.read_bytes().count(b"\n") - before <= requests + SIDE_BY_SIDE
        finally:
            server.kill()


def kill_after(folder: Path, runs: Path, log: Path, asked: int) -> None:
    """Start a run and SIGKILL it once the server has been asked so often in all (or when it is done)."""
    child = start(folder, runs)
    deadline = time.monotonic() + 60
    while log.read_bytes().count(b"\n") < asked and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
