"""Batch files: chat completions asked and answered one a line, as providers' batch APIs and `vllm run-batch` take them.

A log of single calls has nearly the same lines, so it is read here too: `{"request": ..., "response": ...}`, with or
without the HTTP status around the response.
"""

from typing import Any, NamedTuple

import orjson

from pipeline.engines.base import Completion
from pipeline.engines.openai_api import completion_of, error_text

URL = "/v1/chat/completions"
SHOWN = 200  # characters of an error


def request_line(custom_id: str, body: dict[str, Any]) -> bytes:
    """One line of a batch's input."""
    row = {"custom_id": custom_id, "method": "POST", "url": URL, "body": body}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


class Line(NamedTuple):
    """One line of a batch's input, of its output or error file, or of a log.

    `custom_id` is "" and `body` (what was asked) empty where the line does not say; `problem` says why there is no
    `response`, the chat completion.
    """

    custom_id: str
    body: dict[str, Any]
    response: dict[str, Any]
    problem: str

    def completion(self, top_logprobs: int = 0) -> Completion:
        """The answer, or its error."""
        if self.problem:
            return Completion(error=self.problem)
        try:
            return completion_of(self.response, top_logprobs)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            return Completion(
                error=f"unreadable response ({type(error).__name__}): {error_text(self.response)[:SHOWN]}"
            )


def parse(line: bytes) -> Line:
    """Read one line. Raises ValueError where it is no JSON object, as a torn one is."""
    row = orjson.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    asked = _object(row.get("request")) or row
    told = _object(row.get("response"))
    status = told.get("status_code", 200)
    response = told if "choices" in told else _object(told.get("body"))
    problem = ""
    if row.get("error"):
        problem = error_text(row["error"])[:SHOWN]
    elif status != 200:
        problem = f"HTTP {status}: {error_text(response)[:SHOWN]}"
    elif not response:
        problem = "no response"
    custom_id = row.get("custom_id")
    body = asked if "messages" in asked else _object(asked.get("body"))
    return Line(custom_id if isinstance(custom_id, str) else "", body, {} if problem else response, problem)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
