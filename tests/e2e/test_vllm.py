"""The real vLLM: deadly prompts, memory that runs out, and kill -9 at random points."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import models_home
from tests.e2e.test_demo import environment, processes_of, remembered

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = 24
GENERATE = [
    sys.executable,
    "-m",
    "pipeline",
    "generate",
    str(ROOT / "examples/stories/plan.yaml"),
    f"--set=generate.source.count={SEEDS}",
    "--set=generate.truncated=keep",
    "--set=generate.sampling.max_tokens=32",
    "--set=teacher.max_num_seqs=4",
]
ASKING = """
import json, sys
from pathlib import Path
from pipeline.engines import Request, Sampling
from pipeline.engines.vllm import Vllm
from pipeline.errors import ModelError
from pipeline.records import Message

def open_(**settings):
    return Vllm(model="demo:smollm2-135m-instruct", **settings).open(Path(sys.argv[1]))

def ask(name, words, tokens=6):
    said = (Message(role="user", content=words),)
    return Request(id=name, messages=said, sampling=Sampling(max_tokens=tokens, top_p=0.9), seed=len(words))

def told(session, requests):
    answers = [a for batch in session.complete(requests) for a in batch]
    print(json.dumps([[r.id, c.text, c.error] for r, c in answers]))
    session.close()
"""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]


def python(folder: Path, code: str) -> tuple[dict[str, tuple[str, str]], str]:
    """What a script printed of answers and errors by request, and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", ASKING + code, str(folder / "vllm.log")],
        env=environment(folder),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    rows: list[Any] = json.loads(done.stdout)
    assert len({name for name, _, _ in rows}) == len(rows)
    return {name: (text, error) for name, text, error in rows}, done.stderr


def test_a_prompt_that_kills_the_engine_is_found(tmp_path: Path) -> None:
    """vLLM dies over a seeded prompt whose prefill is split on a CPU; the others are answered all the same."""
    answers, said = python(
        tmp_path,
        """
chunks = {"enable_chunked_prefill": True, "max_num_batched_tokens": 512}
session = open_(max_model_len=1024, max_num_seqs=8, engine=chunks)
told(session, [ask(f"r{n}", "story " * (700 if n == 3 else n + 1)) for n in range(6)])
""",
    )
    assert answers["r3"] == ("", "crashed the engine: CPU Generator does not use offset")
    others = [answers[f"r{n}"] for n in (0, 1, 2, 4, 5)]
    assert all(text and not error for text, error in others)
    assert "vLLM died over 6 requests" in said and "r3 crashed the engine" in said
    assert not list(tmp_path.glob("*.inflight"))


def test_memory_that_runs_out_while_decoding(tmp_path: Path) -> None:
    """torch cannot allocate what 64 sequences need; with 32 it can, and nothing is lost."""
    answers, said = python(
        tmp_path,
        """
import resource
from pipeline.engines.vllm_core import Core

reopen = Core.open
def open_with_room(self):
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    reopen(self)
Core.open = open_with_room

session = open_(max_model_len=256, max_num_seqs=64, engine={"kv_cache_memory_bytes": 200 << 20})
list(session.complete([ask("warm", "up")]))
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (40 << 20), resource.RLIM_INFINITY))
told(session, [ask(f"r{n}", f"story {n}") for n in range(80)])
""",
    )
    assert len(answers) == 80
    assert all(text and not error for text, error in answers.values())
    assert "memory ran out while decoding" in said and "max_num_seqs 32" in said


def test_a_cache_that_is_too_small_is_one_message(tmp_path: Path) -> None:
    """Fewer sequences do not help where one does not fit: two tries, then what to do."""
    answers, said = python(
        tmp_path,
        """
try:
    open_(max_model_len=4096, engine={"kv_cache_memory_bytes": 16 << 20})
except ModelError as error:
    print(json.dumps([["error", str(error), ""]]))
""",
    )
    message = answers["error"][0]
    assert "vLLM cannot load demo:smollm2-135m-instruct" in message
    assert "KV cache" in message and "lower max_model_len" in message
    assert said.count("trying again") == 1


def shards(runs: Path) -> dict[str, bytes]:
    """The files of the one version of generate, manifest aside."""
    (folder,) = runs.glob("stories/generate/0001-*")
    assert (folder / "manifest.json").is_file()
    return {f.name: f.read_bytes() for f in folder.glob("*.jsonl")}


def test_killed_again_and_again_the_shards_are_the_same(tmp_path: Path) -> None:
    """kill -9 at three random points, then a run to the end: byte for byte what an uninterrupted run writes."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(GENERATE, env=environment(whole), cwd=ROOT, check=True, stderr=subprocess.DEVNULL, timeout=900)
    points = sorted(random.sample(range(1, SEEDS - 6), 3))
    memo = broken / "stories/memo.sqlite"
    for point in points:
        child = subprocess.Popen(GENERATE, env=environment(broken), cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while remembered(memo) < point and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        child.kill()
        assert child.wait() == -signal.SIGKILL, f"done before it could be killed at {points}"
        assert processes_of(broken) == []
    before = remembered(memo)
    assert points[-1] <= before < SEEDS
    done = subprocess.run(
        [*GENERATE, "--json"], env=environment(broken), cwd=ROOT, check=True, capture_output=True, timeout=900
    )
    assert json.loads(done.stdout)[0]["usage"]["asked"] == SEEDS - before
    assert shards(broken) == shards(whole), f"killed at {points}"
