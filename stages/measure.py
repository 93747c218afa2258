"""Measure one model in a process of its own, so that its peak memory is its own.

Called as `python -m stages.measure`; reads a job as one JSON line on stdin, writes JSON lines to stdout:
`{"advance": n}` as it goes, `{"result": {...}}` at the end. It ends when its parent does.
"""

import math
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson

from stages.student import load

SPEED_TOKENS = 48


def main() -> None:
    """Read the job, measure, report."""
    job = orjson.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    report = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever libraries print goes to the log with stderr

    def tell(row: dict[str, Any]) -> None:
        report.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    tell({"result": measure(job, tell)})


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def measure(job: dict[str, Any], tell: Any) -> dict[str, Any]:
    """Perplexity on held-out answers, then speed and samples on held-out prompts."""
    import torch

    torch.manual_seed(job["seed"])
    model, tokenizer = load(**job["model"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    model.to(device).eval()
    nll, tokens, size = 0.0, 0, 0
    for conversation in job["conversations"]:
        loss, count = answer_loss(model, tokenizer, conversation)
        nll, tokens, size = nll + loss, tokens + count, size + len(conversation[-1]["content"].encode())
        tell({"advance": 1})
    batch = prompts(model, tokenizer, job)
    samples = generate(model, tokenizer, batch, job["sampling"]) if batch is not None else []
    tell({"advance": 1})
    rate = speed(model, tokenizer, batch) if batch is not None else 0.0
    return {
        "perplexity": math.exp(nll / tokens) if tokens else None,
        "bits_per_byte": nll / math.log(2) / size if size else None,
        "tokens": tokens,
        "tokens_per_second": rate,
        "peak_memory": peak_memory(device),
        "parameters": sum(p.numel() for p in model.parameters()),
        "samples": samples,
    }


def answer_loss(model: Any, tokenizer: Any, conversation: list[dict[str, str]]) -> tuple[float, int]:
    """Summed cross-entropy in nats of the last turn given the others, end of turn included; and its tokens."""
    found = answer_logprobs(model, tokenizer, conversation)
    return -found.sum().item(), len(found)


def answer_logprobs(model: Any, tokenizer: Any, conversation: list[dict[str, str]]) -> Any:
    """Log-probabilities of the tokens of the last turn given the others, end of turn included: a vector, in nats."""
    import torch

    prompt = tokenizer.apply_chat_template(
        conversation[:-1], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    whole = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
    start = len(prompt)
    if whole[:start] != prompt:  # a template that rewrites earlier turns: count what both have
        start = next((i for i, (a, b) in enumerate(zip(whole, prompt, strict=False)) if a != b), min(len(whole), start))
    ids = torch.tensor([whole], device=model.device)
    with torch.inference_mode():
        logprobs = model(ids, use_cache=False).logits[0, start - 1 : -1].float().log_softmax(-1)
    return logprobs.gather(-1, ids[0, start:, None]).squeeze(1)


def generate(model: Any, tokenizer: Any, batch: Any, sampling: dict[str, Any]) -> list[str]:
    """Answers to a batch of prompts under the plan's sampling."""
    import torch

    drawn = sampling["temperature"] > 0
    how = {"temperature": sampling["temperature"], "top_p": sampling["top_p"]} if drawn else {}
    with torch.inference_mode():
        out = model.generate(
            **batch, do_sample=drawn, max_new_tokens=sampling["max_tokens"], pad_token_id=tokenizer.pad_token_id, **how
        )
    answers = out[:, batch["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def speed(model: Any, tokenizer: Any, batch: Any) -> float:
    """Tokens per second of greedy decoding, the same number of tokens for every model: no early end counts."""
    import torch

    fixed = {"do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    with torch.inference_mode():
        model.generate(**batch, min_new_tokens=4, max_new_tokens=4, **fixed)  # warm up
        started = time.monotonic()
        out = model.generate(**batch, min_new_tokens=SPEED_TOKENS, max_new_tokens=SPEED_TOKENS, **fixed)
    made = out.shape[0] * (out.shape[1] - batch["input_ids"].shape[1])
    return float(made / (time.monotonic() - started))


def prompts(model: Any, tokenizer: Any, job: dict[str, Any]) -> Any:
    """The first held-out prompts as one left-padded batch; None where the plan wants none."""
    asked = [c[:-1] for c in job["conversations"][: job["samples"]]]
    if not asked:
        return None
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", padding=True
    ).to(model.device)


def peak_memory(device: str) -> int:
    """Bytes: of the device where there is one, else the process's peak resident set."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would count what the parent had when it forked
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
