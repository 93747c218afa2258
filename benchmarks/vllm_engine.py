"""`Job.ask` over vLLM, every completion durable, against `LLM.chat` given the same prompts at once.

Run as `python -m benchmarks.vllm_engine [PROMPTS [MAX_TOKENS]]`; writes benchmarks/vllm_engine.json. One process, one
engine, the demo's prompts and sampling. The prompts are cut into blocks, and each block is answered by both sides, one
right after the other, with an empty prefix cache; who goes first changes with every block. So what else the machine
does falls on both, and the ratio holds where the rates do not.
"""

import json
import platform
import random
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import prompts
from pipeline import machine
from pipeline.engines import Request
from pipeline.engines.vllm import Vllm, VllmSession
from pipeline.job import Job
from pipeline.run import Run
from stages.plan import load

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 250  # prompts: twice what the demo's engine decodes at once, so that both sides have to queue
WARM = 32


def requests_of(count: int, max_tokens: int) -> tuple[Vllm, list[Request]]:
    """The demo's teacher, and requests as its plan makes them, of at most `max_tokens`."""
    settings = (f"generate.source.count={count}", f"generate.sampling.max_tokens={max_tokens}")
    plan = load(ROOT / "examples/stories/plan.yaml", settings)
    assert isinstance(plan.teacher, Vllm) and plan.generate is not None
    prompt = prompts.load(prompts.HERE / "story/en.md")
    seeds = islice(plan.generate.source.seeds(plan.seed, 0), count)
    sampling = plan.generate.sampling.draw(random.Random(0), 0)
    made = [Request(id=s.id, messages=prompt.render(s.fields), sampling=sampling, seed=n) for n, s in enumerate(seeds)]
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
    """All blocks, then throughput of each side over all of them."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    max_tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    teacher, requests = requests_of(count, max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        session = teacher.open(Path(folder) / "vllm.log")
        opening = time.monotonic() - started
        all_at_once(session.llm, requests[:WARM])
        durable(session, teacher, requests[:WARM])
        spent = {"chat": [0.0, 0], "ours": [0.0, 0]}
        for n, start in enumerate(range(0, count, BLOCK)):
            asked = requests[start : start + BLOCK]
            for side in ("chat", "ours") if n % 2 else ("ours", "chat"):
                session.llm.reset_prefix_cache()
                took, tokens = all_at_once(session.llm, asked) if side == "chat" else durable(session, teacher, asked)
                spent[side][0] += took
                spent[side][1] += tokens
                print(f"{side}: {tokens} tokens in {took:.1f} s", file=sys.stderr)
        session.close()
    import vllm

    rates = {side: tokens / took for side, (took, tokens) in spent.items()}
    result = {
        "prompts": count,
        "max_tokens": max_tokens,
        "block": BLOCK,
        "llm_chat_tokens_per_second": round(rates["chat"], 1),
        "pipeline_tokens_per_second": round(rates["ours"], 1),
        "ratio": round(rates["ours"] / rates["chat"], 3),
        "open_seconds": round(opening, 1),
        "cores": machine.cores(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "vllm": vllm.__version__,
    }
    (ROOT / "benchmarks/vllm_engine.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
