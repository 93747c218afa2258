"""`Job.ask` over vLLM, every completion durable, against `LLM.chat` given the same prompts at once.

Run as `python -m benchmarks.vllm_engine [PROMPTS]`; writes benchmarks/vllm_engine.json. One process, one engine, the
demo's prompts and sampling; each round empties the prefix cache first, and the two sides take turns at going first.
"""

import json
import os
import platform
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.engines import Request
from pipeline.engines.vllm import Vllm, VllmSession
from pipeline.job import Job
from pipeline.run import Run
from stages.plan import load

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 2


def requests_of(prompts: int) -> tuple[Vllm, list[Request]]:
    """The demo's teacher and its first requests."""
    count = f"generate.source.count={prompts}"
    plan = load(ROOT / "examples/stories/plan.yaml", (count,))
    assert isinstance(plan.teacher, Vllm) and plan.generate is not None
    seeds = plan.generate.source.seeds(plan.seed, 0)
    made = [
        Request(id=s.id, messages=plan.generate.task.ask(s).messages, sampling=plan.generate.sampling, seed=n)
        for n, s in enumerate(islice(seeds, prompts))
    ]
    return plan.teacher, made


def all_at_once(llm: Any, requests: list[Request]) -> tuple[float, int]:
    """Seconds and tokens of `LLM.chat`."""
    from vllm import SamplingParams

    sampling = []
    for r in requests:
        settings = r.sampling.model_dump()
        settings["stop"] = list(settings["stop"]) or None
        sampling.append(SamplingParams(**settings, seed=r.seed))
    chats = [[m.model_dump() for m in r.messages] for r in requests]
    started = time.monotonic()
    outputs = llm.chat(chats, sampling, use_tqdm=False)
    return time.monotonic() - started, sum(len(o.outputs[0].token_ids) for o in outputs)


def durable(session: VllmSession, teacher: Vllm, requests: list[Request]) -> tuple[float, int]:
    """Seconds and tokens of `Job.ask` into a new memo."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        run.create()
        job = Job(run, 0, teacher)
        job.use(teacher, session)
        started = time.monotonic()
        tokens = sum(a.completion.completion_tokens for a in job.ask(None, requests))
        return time.monotonic() - started, tokens


def main() -> None:
    """Rounds of both; throughput of all rounds together."""
    prompts = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    teacher, requests = requests_of(prompts)
    started = time.monotonic()
    session = teacher.open()
    opening = time.monotonic() - started
    all_at_once(session.llm, requests[:32])  # warm up
    spent = {"chat": [0.0, 0], "ours": [0.0, 0]}
    for n in range(ROUNDS):
        for side in ("chat", "ours") if n % 2 else ("ours", "chat"):
            session.llm.reset_prefix_cache()
            took, tokens = all_at_once(session.llm, requests) if side == "chat" else durable(session, teacher, requests)
            spent[side][0] += took
            spent[side][1] += tokens
            print(f"{side}: {tokens} tokens in {took:.1f} s", file=sys.stderr)
    rates = {side: tokens / took for side, (took, tokens) in spent.items()}
    result = {
        "prompts": prompts,
        "rounds": ROUNDS,
        "llm_chat_tokens_per_second": round(rates["chat"], 1),
        "pipeline_tokens_per_second": round(rates["ours"], 1),
        "ratio": round(rates["ours"] / rates["chat"], 3),
        "start_seconds": round(opening, 1),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    (ROOT / "benchmarks/vllm_engine.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
