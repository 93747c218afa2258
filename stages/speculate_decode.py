"""The teacher's greedy answers in vLLM, alone or with a draft model, timed.

Called as `python -m stages.speculate_decode`. After a warm-up the prompts go in one at a time, then as many at once
as the engine takes. Both times it reads them anew: the prefix cache is emptied before.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.engines import Request
from pipeline.engines.chat import token_ids
from pipeline.engines.vllm import Vllm
from pipeline.errors import ModelError
from pipeline.records import Message
from stages import child

WARM_UP = 8  # tokens
COUNTERS = "vllm:spec_decode_num_"


def decode(job: dict[str, Any], advance: child.Advance) -> dict[str, Any]:
    """Prompts as the teacher reads them, and for each pass the answers' tokens, the seconds and what was accepted."""
    teacher = Vllm.model_validate(job["teacher"])
    more = {"disable_log_stats": False, "speculative_config": job["speculative"]}
    session = teacher.model_copy(update={"engine": teacher.engine | more}).open(Path(job["log"]))
    try:
        return _measure(session.llm, teacher.model, job, advance)
    finally:
        session.close()


def _measure(llm: Any, model: str, job: dict[str, Any], advance: child.Advance) -> dict[str, Any]:
    rows = _prompts(llm, model, job)
    prompts = [{"prompt_token_ids": row["prompt"]} for row in rows]
    most = int(llm.llm_engine.vllm_config.scheduler_config.max_num_seqs)  # less than asked for where memory ran out
    passes = []
    if prompts:
        _generate(llm, prompts, WARM_UP)
        passes = [_timed(llm, prompts, 1, job["max_tokens"], advance)]
        if (together := min(most, len(prompts))) > 1:
            passes.append(_timed(llm, prompts, together, job["max_tokens"], advance))
    dtype = str(llm.model_config.dtype).removeprefix("torch.")
    return {"rows": rows, "passes": passes, "dtype": dtype, "max_num_seqs": most}


def _prompts(llm: Any, model: str, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Id and token ids of each prompt that leaves room for an answer."""
    tokenizer, room = llm.get_tokenizer(), int(llm.model_config.max_model_len) - job["max_tokens"]
    rows = []
    for row in job["rows"]:
        messages = tuple(Message.model_validate(m) for m in row["messages"])
        request = Request(id=row["id"], messages=messages, chat_template_kwargs=job["chat_template_kwargs"])
        try:
            ids = token_ids(tokenizer, request)
        except Exception as error:  # a chat template is code of the model's maker: any error is its own
            raise ModelError(f"the chat template of {model} fails on record {row['id']}: {error}") from error
        if len(ids) <= room:
            rows.append({"id": row["id"], "prompt": ids})
    return rows


def _timed(llm: Any, prompts: list[Any], batch: int, max_tokens: int, advance: child.Advance) -> dict[str, Any]:
    """One pass over all prompts, one by one or all together; vLLM itself lets in as many as it takes."""
    llm.reset_prefix_cache()
    before = _counters(llm)
    outputs = []
    started = time.monotonic()
    for given in [prompts] if batch > 1 else [[prompt] for prompt in prompts]:
        outputs += _generate(llm, given, max_tokens)
        advance(len(given))
    seconds = time.monotonic() - started
    counted = _counters(llm)
    counted.subtract(before)
    return {
        "batch": batch,
        "seconds": seconds,
        "answers": [list(output.outputs[0].token_ids) for output in outputs],
        "drafts": counted["drafts"],
        "drafted": counted["draft_tokens"],
        "accepted": counted["accepted_tokens"],
        "by_position": [counted[name] for name in sorted(counted) if name.startswith("at ")],
    }


def _generate(llm: Any, prompts: list[Any], tokens: int) -> list[Any]:
    from vllm import SamplingParams

    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=tokens), use_tqdm=False)
    if broken := [o for o in outputs if o.outputs[0].finish_reason not in ("stop", "length")]:
        raise ModelError(f"vLLM gave up {len(broken)} of {len(prompts)} answers: {broken[0].outputs[0].finish_reason}")
    return list(outputs)


def _counters(llm: Any) -> Counter[str]:
    """vLLM's counts of speculation since it was opened, all engines together; accepted ones by position as `at 00`."""
    found: Counter[str] = Counter()
    for metric in llm.get_metrics():
        if not metric.name.startswith(COUNTERS):
            continue
        name = metric.name.removeprefix(COUNTERS)
        if name == "accepted_tokens_per_pos":
            found.update({f"at {place:02d}": count for place, count in enumerate(metric.values)})
        elif hasattr(metric, "value"):
            found[name] += metric.value
    return found


if __name__ == "__main__":
    child.serve(decode)
