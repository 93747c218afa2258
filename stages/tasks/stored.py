"""Records from stored chat completions: distilling a model from what it has answered already."""

import math
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from pipeline.engines import Completion, Engine
from pipeline.engines.openai_api import completion_of
from pipeline.errors import UsageError
from pipeline.records import Message, Seed
from stages.tasks.base import Example, Script, Task, Unreadable, answer
from stages.tasks.respond import require_field
from stages.tasks.thinking import apart

NEEDS = ("request", "response", "problem")


class Stored(Task):
    """The answers that `source: completions` brings, as records; nobody is asked."""

    kind: Literal["stored"] = "stored"
    licence: Annotated[str, Field(description="the licence of the model that answered, which no log tells")] = ""
    truncated: Annotated[
        Literal["drop", "keep"], Field(description="answers cut by max_tokens: a student trained on them never ends")
    ] = "drop"

    def require(self, given: set[str]) -> None:
        """The source gives requests and responses."""
        for name in NEEDS:
            require_field(self.kind, name, given)

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """Nobody."""
        return []

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """One example per choice of the response; a dropped one where there is none."""
        request, response, problem = (seed.fields.get(name) for name in NEEDS)
        if not isinstance(request, Mapping) or not isinstance(response, Mapping) or not isinstance(problem, str):
            raise UsageError(f"{seed.where}: no stored completion; task stored goes with source completions")
        yield from ()  # a script that asks nothing
        return list(self._examples(seed, request, response))

    def _examples(self, seed: Seed, request: Mapping[str, Any], response: Mapping[str, Any]) -> Iterator[Example]:
        meta: dict[str, Any] = {"request": _less(request, "messages"), "response": _less(response, "choices", "usage")}
        made_by = {**_asked_with(request), "engine": "stored", "licence": self.licence}
        made_by["model"] = _text(response.get("model")) or _text(request.get("model"))
        problem, detail = seed.fields["problem"], _text(seed.fields.get("detail"))
        try:
            turns = _turns(request.get("messages"))
        except Unreadable as unreadable:
            turns, problem, detail = [], problem or unreadable.reason, detail or unreadable.detail
            meta["request"] = request  # whole, since no turn shows it
        choices = response.get("choices")
        if not isinstance(choices, list) or not choices:
            problem, detail = problem or "no_answer", detail or "the response has no choices"
            yield Example(turns or [answer("")], meta=meta, made_by=made_by, reason=problem, detail=detail)
            return
        for choice in choices:
            example = self._example(turns, {**response, "choices": [choice]}, alone=len(choices) == 1)
            example = example._replace(meta={**meta, **example.meta}, made_by={**made_by, **example.made_by})
            yield example._replace(reason=problem, detail=detail) if problem else example

    def _example(self, turns: list[Message], response: Mapping[str, Any], *, alone: bool) -> Example:
        """What one choice brings. How many tokens it took is known only where it is `alone`."""
        try:
            said = apart(completion_of(response))
            message = response["choices"][0]["message"]
            messages = [*turns, answer(said.text.strip())]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            detail = f"unreadable response ({type(error).__name__})"
            return Example(turns or [answer("")], reason="no_answer", detail=detail)
        reason, detail = self._problem(said, message)
        return Example(
            messages,
            said.reasoning,
            {"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {},
            reason,
            detail,
            made_by={
                "finish_reason": _text(said.finish_reason),
                "prompt_tokens": _whole(said.prompt_tokens),
                "completion_tokens": _whole(said.completion_tokens) if alone else 0,
            },
        )

    def _problem(self, said: Completion, message: Mapping[str, Any]) -> tuple[str, str]:
        """Why an answer is dropped: a slug and a detail, both "" where it is kept."""
        if message.get("refusal"):
            return "refusal", ""
        if said.finish_reason == "content_filter":
            return "content_filter", ""
        if said.finish_reason == "length" and self.truncated == "drop":
            return "truncated", "cut by max_tokens"
        if said.text.strip():
            return "", ""
        called = message.get("tool_calls") or message.get("function_call")
        return ("tool_call", "the answer is a call of a tool") if called else ("empty_answer", "")


def _turns(messages: Any) -> list[Message]:
    """The conversation that was asked. Raises Unreadable where a record cannot hold it."""
    if not isinstance(messages, list) or not messages:
        raise Unreadable("no_request", "what was asked is not there: name the batch's input file as `requests`")
    turns = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Unreadable("bad_request", f"messages.{number} is no object")
        role = "system" if message.get("role") == "developer" else message.get("role")
        if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
            raise Unreadable("tool_call", f"messages.{number} is a call of a tool, or what it gave")
        try:
            turns.append(Message(role=role, content=_content(message.get("content"), number)))
        except ValidationError as error:
            raise Unreadable("bad_request", f"messages.{number}: {error.errors()[0]['msg']}") from error
    if turns[-1].role != "user":
        raise Unreadable("bad_request", f"the conversation ends with a turn of {turns[-1].role}")
    return turns


def _content(content: Any, number: int) -> Any:
    """A turn's text, given whole or in parts."""
    if not isinstance(content, list):
        return content
    if any(not isinstance(part, dict) or not isinstance(part.get("text"), str) for part in content):
        raise Unreadable("not_text", f"messages.{number} holds more than text")
    return "\n".join(part["text"] for part in content)


def _asked_with(request: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling of a request, as far as it says."""
    limits = (request.get(name) for name in ("max_completion_tokens", "max_tokens"))
    return {
        "seed": _whole(request.get("seed")),
        "temperature": _number(request.get("temperature")),
        "top_p": _number(request.get("top_p")),
        "max_tokens": next((_whole(limit) for limit in limits if limit), 0),
    }


def _less(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What the record does not hold elsewhere."""
    return {key: inner for key, inner in value.items() if key not in names}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
