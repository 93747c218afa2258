"""What judges share: text that is fenced off, verdicts that are asked for again, votes that become one score.

Whatever is judged was written by somebody: it may hold words to the judge, a mark like the one that ends it, or a
model's control tokens, which would end the judge's own turn. `fenced` sees to the last two; the first is the rubric's.
"""

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import regex

from filters.base import Context
from pipeline.engines import Answered, Completion, Engine, Request
from pipeline.records import Message, Record, digest

T = TypeVar("T")
Aggregate = Literal["mean", "median", "min", "majority"]
UNMEASURED = ("no_verdict", "unreadable_verdict", "missing_input", "over_model_limit", "no_text")
"""Reasons of judges and models that come without a score."""
WINDOW = 1024  # answers that wait, at most, while an unreadable one among them is asked for again
RETRY_TEMPERATURE = 1.0  # at temperature 0 another seed changes nothing
_CONTROL = regex.compile(r"<(?=[|｜][^<>|｜\s]{1,60}[|｜]>)|<(?=/?s>|<?/?SYS>>|(?:start|end)_of_turn>)|\[(?=/?INST\])")


def defused(text: str) -> str:
    """`text` with a space in what a tokenizer would read as a control token: `< |im_end|>`."""
    return _CONTROL.sub(r"\g<0> ", text)


def fenced(values: dict[str, str]) -> dict[str, str]:
    """`values` without control tokens, and a `fence` that none of them holds. The first is the text that is judged."""
    safe = {name: defused(text) for name, text in values.items()}
    fence = digest(next(iter(safe.values())), 8)
    while any(fence in text for text in safe.values()):
        fence = digest([fence, *safe.values()], 8)
    return safe | {"fence": fence}


def before_answer(record: Record) -> list[Message]:
    """The turns that the last answer follows."""
    return record.messages[:-1] if record.messages[-1].role == "assistant" else record.messages


def asked_in(record: Record) -> str:
    """What the answer answers: the user's turn, or the whole conversation before it, turn by turn."""
    turns = before_answer(record)
    if len(turns) <= 1:
        return record.prompt
    return "\n\n".join(f"[{turn.role}] {turn.content}" for turn in turns)


def drawn_seed(*parts: object) -> int:
    """A seed of randomness that follows from what is asked, so that no two questions share their luck."""
    return int(digest(list(parts), 7), 16)


def verdicts(
    context: Context,
    engine: Engine | None,
    requests: Iterable[Request],
    readable: Callable[[Completion], bool],
    retries: int,
) -> Iterator[Completion]:
    """Completions in the order of `requests`; an unreadable one is asked for again up to `retries` times."""
    waiting: list[Answered] = []
    again = False
    for answered in context.ask(engine, requests):
        waiting.append(answered)
        again = again or not _settled(answered, readable)
        if not again or len(waiting) == WINDOW:
            yield from _settle(context, engine, waiting, readable, retries)
            waiting, again = [], False
    yield from _settle(context, engine, waiting, readable, retries)


def _settled(answered: Answered, readable: Callable[[Completion], bool]) -> bool:
    return bool(answered.completion.error) or readable(answered.completion)


def _settle(
    context: Context,
    engine: Engine | None,
    waiting: list[Answered],
    readable: Callable[[Completion], bool],
    retries: int,
) -> Iterator[Completion]:
    for attempt in range(1, retries + 1):
        places = [n for n, answered in enumerate(waiting) if not _settled(answered, readable)]
        if not places:
            break
        again = [_once_more(waiting[n].request, attempt, context.seed) for n in places]
        for answered, n in zip(context.ask(engine, again), places, strict=True):
            waiting[n] = answered
    for answered in waiting:
        yield answered.completion


def _once_more(request: Request, attempt: int, seed: int) -> Request:
    heat = max(request.sampling.temperature, RETRY_TEMPERATURE)
    words = [message.content for message in request.messages]
    return request.model_copy(
        update={
            "sampling": request.sampling.model_copy(update={"temperature": heat}),
            "seed": drawn_seed(seed, request.seed, attempt, words),
        }
    )


def portions(items: Iterable[T], counts: deque[int]) -> Iterator[list[T]]:
    """`items` in lists of the lengths that `counts` holds by the time they arrive; a count of 0 is an empty list."""
    portion: list[T] = []
    for item in items:
        while not counts[0]:
            counts.popleft()
            yield []
        portion.append(item)
        if len(portion) == counts[0]:
            counts.popleft()
            yield portion
            portion = []
    while counts:
        counts.popleft()
        yield []


def combined(scores: Sequence[float], how: Aggregate) -> float:
    """One score of several. `majority` is the highest that more than half of them reach."""
    match how:
        case "mean":
            return statistics.fmean(scores)
        case "median":
            return statistics.median(scores)
        case "min":
            return min(scores)
        case "majority":
            return statistics.median_low(scores)


def self_preference(label: str, engines: list[Engine], teacher: Engine | None) -> list[str]:
    """A note where a judge is the teacher, which favours its own words (Panickssery et al. 2024, arXiv 2404.13076)."""
    if teacher is None or all(engine.model != teacher.model for engine in engines):
        return []
    return [
        f"{label}: {teacher.model} judges its own answers, and judges favour their own words: let another model judge, "
        "or see `pipeline calibrate`"
    ]
