"""Answers from a recording: a real model's words without the model, for tests and for looking closer.

A recording is JSONL: a first line with the recorded engine's `words`, then one line per completion with
its memo `key` and `max_tokens`. A request that was not recorded is answered with an error, never made up.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from pipeline.component import PlanFile
from pipeline.engines.base import Answered, Completion, Engine, Request
from pipeline.errors import DataError


class Replay(Engine):
    """Answers recorded from another engine."""

    kind: Literal["replay"] = "replay"
    recording: PlanFile

    def weights(self) -> list[tuple[str, str]]:
        """None: that is what a recording is for."""
        return []

    def words(self) -> dict[str, str]:
        """Those of the engine that was recorded, so that keys agree with its memo."""
        with self.recording.open("rb") as file:
            header = _parse(file.readline(), self.recording, 1)
        if not isinstance(words := header.get("words"), dict):
            raise DataError(f"{self.recording}:1 has no `words` of the recorded engine")
        return words

    def open(self, log: Path | None = None) -> "ReplaySession":
        """Read the recording."""
        return ReplaySession(self.words(), self.recording)


class ReplaySession:
    """A recording in memory."""

    def __init__(self, words: dict[str, str], recording: Path) -> None:
        self._words = words
        with recording.open("rb") as file:
            rows = [_answer(line, recording, n) for n, line in enumerate(file, 1) if n > 1]
        self._answers: dict[str, list[tuple[int, Completion]]] = {}
        for key, under, completion in rows:
            self._answers.setdefault(key, []).append((under, completion))

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """Look every request up."""
        for request in requests:
            yield [Answered(request, self._answer(request))] if request else []

    def _answer(self, request: Request) -> Completion:
        limit = request.sampling.max_tokens
        recorded = self._answers.get(request.key(self._words), [])
        missing = Completion(error="not in the recording")
        return next((completion for under, completion in recorded if completion.serves(under, limit)), missing)

    def close(self) -> None:
        """Nothing to free."""


def _answer(line: bytes, file: Path, number: int) -> tuple[str, int, Completion]:
    row = _parse(line, file, number)
    try:
        return row["key"], row["max_tokens"], Completion.model_validate(row["completion"])
    except (KeyError, ValidationError) as error:
        raise DataError(f"{file}:{number} has no `key`, `max_tokens` and `completion`") from error


def _parse(line: bytes, file: Path, number: int) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{file}:{number} is not JSON") from error
    if not isinstance(row, dict):
        raise DataError(f"{file}:{number} is not a JSON object")
    return row
