"""Measure one model in a process of its own, so that its peak memory is its own.

Called as `python -m stages.measure`; see `stages.child`. How likely it finds texts, what it answers, how fast it is,
what it takes. Answers come from the transformers engine: every setting of the sampling acts, and no answer depends on
which others are written beside it.
"""

import os
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.base import Request, Sampling
from pipeline.engines.transformers_session import TransformersSession
from pipeline.records import Message
from stages import child
from stages.student import count, load

Turns = list[dict[str, str]]
SPEED_TOKENS = 48
SPEED_PROMPTS = 8
FIRST_PROMPTS = 5  # prompts, each alone, whose first token is timed
BATCH_TOKENS = 8192  # prompts and answers under way at once
FOREVER = 1 << 30  # the context of a model that names none


def measure(job: dict[str, Any], advance: child.Advance) -> dict[str, Any]:
    """`conversations` and `texts` are read, `asked` and `probes` answered; losses are pairs of nats and tokens."""
    import torch

    torch.manual_seed(job["seed"])
    model, tokenizer = load(**job["model"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    model.to(device).eval()
    losses, texts = [], []
    for conversation in job["conversations"]:
        losses.append(answer_loss(model, tokenizer, conversation))
        advance(1)
    for text in job["texts"]:
        texts.append(
            answer_loss(model, tokenizer, text) if isinstance(text, list) else text_loss(model, tokenizer, text)
        )
        advance(1)
    sampling = Sampling.model_validate(job["sampling"])
    asked, probes = job["asked"], job["probes"]
    return {
        "losses": losses,
        "texts": texts,
        "answers": answers(model, tokenizer, asked, sampling, job["seed"], advance),
        "probes": answers(model, tokenizer, probes, sampling.model_copy(update={"temperature": 0.0}), 0, advance),
        **speed(model, tokenizer, (asked or [c[:-1] for c in job["conversations"]])[:SPEED_PROMPTS]),
        "peak_memory": peak_memory(device),
        "parameters": count(model),
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


def text_loss(model: Any, tokenizer: Any, text: str) -> tuple[float, int]:
    """Summed cross-entropy in nats of a text by itself, outside of any chat, and its tokens."""
    import torch

    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    whole = torch.tensor([[begin, *ids]], device=model.device)
    with torch.inference_mode():
        logprobs = model(whole, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    return -logprobs.gather(-1, whole[0, 1:, None]).sum().item(), len(ids)


def answers(
    model: Any, tokenizer: Any, asked: Sequence[Turns], sampling: Sampling, seed: int, advance: child.Advance
) -> list[dict[str, Any]]:
    """What the model says to each conversation, whether it ended by itself, and why where it could say nothing."""
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None) or FOREVER
    session = TransformersSession(model, tokenizer, most, BATCH_TOKENS, None)
    requests = [
        Request(id=str(n), messages=tuple(Message.model_validate(turn) for turn in turns), sampling=sampling,
                seed=seed * 1_000_003 + n)
        for n, turns in enumerate(asked)
    ]  # fmt: skip
    said: dict[str, dict[str, Any]] = {}
    for finished in session.complete(requests):
        for request, completion in finished:
            ended = completion.finish_reason == "stop"
            said[request.id] = {"text": completion.text.strip(), "ended": ended, "error": completion.error}
        advance(len(finished))
    return [said[request.id] for request in requests]


def speed(model: Any, tokenizer: Any, asked: Sequence[Turns]) -> dict[str, float]:
    """Tokens a second of greedy decoding, the same number of tokens for every model: no early end counts.

    And the seconds to the first token of a prompt that comes alone, the median of a few.
    """
    import torch

    def timed(batch: Any, tokens: int) -> float:
        started = time.monotonic()
        model.generate(
            **batch, do_sample=False, pad_token_id=tokenizer.pad_token_id, min_new_tokens=tokens, max_new_tokens=tokens
        )
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.monotonic() - started

    with torch.inference_mode():
        batch = prompts(model, tokenizer, asked)
        timed(batch, 4)  # warm up
        seconds = timed(batch, SPEED_TOKENS)
        alone = [prompts(model, tokenizer, [turns]) for turns in asked[:FIRST_PROMPTS]]
        first = statistics.median(timed(one, 1) for one in alone)
    return {"tokens_per_second": len(asked) * SPEED_TOKENS / seconds, "first_token_seconds": first}


def prompts(model: Any, tokenizer: Any, asked: Sequence[Turns]) -> Any:
    """Prompts as one left-padded batch."""
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer.apply_chat_template(
        list(asked), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", padding=True
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
    child.serve(measure)
