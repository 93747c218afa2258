"""Stored chat completions as seeds: what a model was asked and what it answered, from logs and batch files.

Read as they are, one object a line: the output of a batch API with its input file as `requests`, logs of
`{"request": ..., "response": ...}`, exports of stored completions (a chat completion with its `messages` or `input`),
and conversations that end with the answer (`{"messages": [...]}`). Task `stored` makes records of them; nobody is
asked. A line that cannot be used is a seed too, with the reason why.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple

import orjson
from pydantic import Field

from pipeline.component import PlanFile
from pipeline.engines.batch import parse
from pipeline.errors import UsageError
from stages.sources.base import Source

BOM = b"\xef\xbb\xbf"
ASKED = ("model", "temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "metadata", "tools")


class Completions(Source):
    """Stored chat completions: batch output with its input, logs of requests and responses, exports."""

    kind: Literal["completions"] = "completions"
    path: PlanFile
    requests: Annotated[
        PlanFile | None, Field(description="the batch's input file, where the answers come without what was asked")
    ] = None
    count: Annotated[int | None, Field(ge=1, description="the first so many lines; all when left out")] = None

    def fields(self) -> set[str]:
        """What was asked, what came back, and why there is nothing to use: a slug and a detail, "" where there is."""
        return {"custom_id", "request", "response", "problem", "detail"}

    def rows(self, seed: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Answers in the order of their file, then the requests without any."""
        return itertools.islice(self._rows(), self.count)

    def side(self, fields: dict[str, Any]) -> Any:
        """What was asked: two answers to one question are never on two sides."""
        return fields["request"].get("messages") or fields

    def _rows(self) -> Iterator[tuple[dict[str, Any], str]]:
        asked = _asked(self.requests) if self.requests else {}
        answered: set[str] = set()
        with (self.requests or self.path).open("rb") as requests, self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = _row(line, f"{self.path.name}:{number}")
                place = asked.get(row["custom_id"])
                if place is not None:
                    row["request"] = row["request"] or _body_at(requests, place)
                    answered.add(row["custom_id"])
                elif self.requests and not row["request"] and not row["problem"]:
                    why = f"{self.requests.name} does not hold the request {row['custom_id']!r}"
                    row |= {"problem": "no_request", "detail": why}
                yield row, f"{self.path}:{number}"
            for custom_id, place in asked.items():
                if custom_id not in answered:
                    why = f"{self.path.name} has no answer to {custom_id}"
                    row = _fields(custom_id, _body_at(requests, place), {}, "no_output", why)
                    yield row, f"{self.requests}:{place.number}"


class Place(NamedTuple):
    """Where a line begins, and its number."""

    offset: int
    number: int


def _asked(path: Path) -> dict[str, Place]:
    """The place of every request by its id; the requests themselves may be larger than memory."""
    found: dict[str, Place] = {}
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = Place(offset, number)
            offset += len(line)
            if not line.strip():
                continue
            try:
                custom_id = parse(line.removeprefix(BOM)).custom_id
            except ValueError as error:
                raise UsageError(f"{path}:{number} is no request: {error}") from error
            if not custom_id:
                raise UsageError(f"{path}:{number} has no custom_id")
            if custom_id in found:
                raise UsageError(f"{path}:{number} has the custom_id of line {found[custom_id].number}: {custom_id}")
            found[custom_id] = place
    return found


def _body_at(file: BinaryIO, place: Place) -> dict[str, Any]:
    file.seek(place.offset)
    return parse(file.readline().removeprefix(BOM)).body


def _row(line: bytes, where: str) -> dict[str, Any]:
    """One line as a seed's fields."""
    try:
        read = parse(_shaped(line.removeprefix(BOM)))
    except ValueError as error:
        state = "is not JSON" if line.endswith(b"\n") else "is torn"
        return _fields("", {}, {}, "broken_line", f"{where} {state}: {error}")
    problem = "no_answer" if read.problem else ""
    return _fields(read.custom_id, read.body, _without_logprobs(read.response), problem, read.problem)


def _fields(
    custom_id: str, request: dict[str, Any], response: dict[str, Any], problem: str, detail: str
) -> dict[str, Any]:
    return {
        "custom_id": custom_id,
        "request": request,
        "response": response,
        "problem": problem,
        "detail": detail,
    }


def _shaped(line: bytes) -> bytes:
    """The line as a log of request and response: exports hold both in one object."""
    row = orjson.loads(line)
    if not isinstance(row, dict) or "response" in row:
        return line
    messages = row.get("messages") or row.get("input")
    if isinstance(row.get("choices"), list):
        request = row["request"] if isinstance(row.get("request"), dict) else {"messages": messages or []}
        said = {key: value for key, value in row.items() if key not in ("messages", "input", "request")}
    elif isinstance(messages, list) and messages and _role(messages[-1]) == "assistant":
        request = {"messages": messages[:-1]}
        said = {"choices": [{"message": messages[-1]}], "model": row.get("model", "")}
    else:
        return line
    kept = {key: row[key] for key in ASKED if row.get(key) is not None}
    custom_id = row.get("custom_id") or row.get("id") or ""
    return orjson.dumps({"custom_id": custom_id, "request": kept | request, "response": said})


def _role(message: Any) -> str:
    return str(message.get("role")) if isinstance(message, dict) else ""


def _without_logprobs(response: dict[str, Any]) -> dict[str, Any]:
    """They are most of a line that has them, and no record carries them."""
    choices = response.get("choices")
    if not isinstance(choices, list):
        return response
    slim = [{k: v for k, v in c.items() if k != "logprobs"} if isinstance(c, dict) else c for c in choices]
    return response | {"choices": slim}
