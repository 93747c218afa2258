"""What an OpenAI-compatible server sends, read: completions, errors, and how long to wait before the next try."""

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from pipeline.engines.base import Completion
from pipeline.engines.trace import Trace

ID = "token_id:"  # how vLLM's server writes a token where it is asked for ids
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
UNSUPPORTED = {"unsupported_parameter", "unsupported_value"}


def completion_of(response: Mapping[str, Any], top_logprobs: int = 0) -> Completion:
    """The one answer of a chat completion. Raises KeyError, TypeError or ValueError where it is none.

    `top_logprobs`: what the request asked for, with tokens as ids (see `OpenAI.body`).
    """
    choices = response["choices"]
    if len(choices) != 1:
        raise ValueError(f"{len(choices)} choices")
    choice, usage = choices[0], response.get("usage") or {}
    message = choice["message"]
    tokens = (choice.get("logprobs") or {}).get("content") or []
    first = tokens[0].get("top_logprobs") or [] if tokens and not top_logprobs else []
    return Completion(
        text=message.get("content") or message.get("refusal") or "",
        reasoning=message.get("reasoning_content") or message.get("reasoning") or "",
        finish_reason=choice.get("finish_reason") or "",
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        logprobs={t["token"]: t["logprob"] for t in first},
        trace=_trace(tokens, top_logprobs) if top_logprobs else None,
    )


def _trace(tokens: list[dict[str, Any]], k: int) -> Trace:
    top = [[(_token_id(t), t["logprob"]) for t in token["top_logprobs"]] for token in tokens]
    return Trace.pack(k, [_token_id(t) for t in tokens], [t["logprob"] for t in tokens], top)


def _token_id(token: Mapping[str, Any]) -> int:
    text: str = token["token"]
    if not text.startswith(ID):
        raise ValueError(f"the token {text[:20]!r} comes without its id")
    return int(text.removeprefix(ID))


def error_code(content: bytes) -> str:
    """The `code` of an error response; "" where it has none."""
    error = _parsed(content)
    error = error.get("error") if isinstance(error, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


def error_text(error: Any) -> str:
    """An error as a person would quote it, on one line: its message where it has one."""
    if isinstance(error, bytes):
        error = _parsed(error)
    for key in ("error", "message"):
        if isinstance(error, dict) and error.get(key):
            error = error[key]
    return " ".join((error if isinstance(error, str) else orjson.dumps(error).decode()).split())


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode("utf-8", "replace")


def wait_of(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait; 0 where it does not say."""
    if (milliseconds := _number(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    if after := headers.get("Retry-After", ""):
        seconds = _number(after)
        return _until(after) if seconds is None else seconds
    spent = [name for name in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{name}") == "0"]
    return max((_duration(headers.get(f"x-ratelimit-reset-{name}", "")) for name in spent), default=0.0)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _until(date: str) -> float:
    """Seconds until an HTTP date; 0 for anything else."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _duration(text: str) -> float:
    """Seconds of `1m30.5s` or `250ms`, or of a plain number."""
    plain = _number(text)
    return sum(float(n) * SECONDS[unit] for n, unit in DURATION.findall(text)) if plain is None else plain
