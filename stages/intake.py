"""Rows for a stage that is run on a file: this project's records, or any common JSONL of examples.

Understood besides records: `messages`; `prompt` and `completion`; `instruction`, `input`, `output`
(Alpaca); `conversations` with `from` and `value` (ShareGPT). Other keys are carried in `meta`.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import DataError, UsageError
from pipeline.records import Check, Message, Record, Split, digest
from pipeline.store import Shard, Version
from stages.sources.jsonl import read_rows

DATE = re.compile(r"\d{4}-\d\d")
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class VersionRows:
    """The rows of a version, at most `limit` of each sort."""

    def __init__(self, version: Version, limit: int | None = None) -> None:
        self._version, self._limit = version, limit

    def read(self, shard: Shard) -> Iterator[Record]:
        """Rows in order, checked against the manifest."""
        try:
            yield from islice(self._version.read(shard), self._limit)
        except ValidationError as error:
            raise DataError(f"{self._version.path} holds a row that is no record: {error}") from error

    def count(self, shard: Shard) -> int | None:
        """As the manifest says."""
        rows = self._version.rows(shard)
        return rows if self._limit is None else min(rows, self._limit)


class FileRows:
    """The rows of a JSONL file, made into records."""

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self._path, self._limit = path, limit
        for _ in read_rows(path):  # refused here, before anything is written
            pass

    def read(self, shard: Shard) -> Iterator[Record]:
        """Rows whose split is the one wanted, in file order."""
        if shard == "dropped":
            return
        wanted: Split = "heldout" if shard == "heldout" else "train"
        records = (r for r in self._records() if r.split == wanted)
        yield from islice(records, self._limit)

    def count(self, shard: Shard) -> int | None:
        """Not known without reading."""
        return None

    def _records(self) -> Iterator[Record]:
        seen: dict[str, int] = {}
        for row, where in read_rows(self._path):
            record = to_record(row, where)
            seen[record.id] = nth = seen.get(record.id, 0) + 1
            yield record if nth == 1 else record.model_copy(update={"id": digest([record.id, nth])})


def to_record(row: dict[str, Any], where: str) -> Record:
    """One row as a record. Raises UsageError that says what is missing."""
    try:
        if {"id", "messages", "checks", "made_by"} <= row.keys():
            return Record.model_validate(row | {"by": "", "reason": "", "score": 0.0, "detail": ""})
        messages, used = _messages(row)
        said = [m.model_dump() for m in messages]
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where}: not a conversation: {' '.join(str(error).split())[:200]}") from error
    if not messages:
        raise UsageError(
            f"{where} holds no example; it needs `messages`, `prompt` and `completion`, "
            "`instruction` and `output`, or `conversations`"
        )
    own = _own_id(row.get("id")) or digest(said)
    meta = {k: v for k, v in row.items() if k not in used and k != "id"}
    return Record(id=own, task="given", messages=messages, seeds=[own], checks=[Check(name="given")], meta=meta)


def _own_id(value: Any) -> str:
    """The row's id as text; one that looks like a date gets a prefix, or loaders would make it one."""
    own = "" if value is None else str(value)
    return f"row-{own}" if DATE.match(own) else own


def _messages(row: dict[str, Any]) -> tuple[list[Message], set[str]]:
    """The conversation of a row, and the keys it was read from."""
    if "messages" in row:
        turns = [{"role": t["role"], "content": t["content"]} for t in row["messages"]]
        return [Message.model_validate(t) for t in turns], {"messages"}
    if "conversations" in row:
        pairs = [(SHAREGPT[t["from"]], t["value"]) for t in row["conversations"]]
        return [_said(role, text) for role, text in pairs], {"conversations"}
    if "completion" in row and "prompt" in row:
        return _turns(row["prompt"], "user") + _turns(row["completion"], "assistant"), {"prompt", "completion"}
    if "output" in row and "instruction" in row:
        asked = "\n\n".join(p for p in (row["instruction"], row.get("input", "")) if p)
        return [_said("user", asked), _said("assistant", row["output"])], {"instruction", "input", "output"}
    return [], set()


def _turns(value: Any, role: str) -> list[Message]:
    return [_said(role, value)] if isinstance(value, str) else [Message.model_validate(t) for t in value]


def _said(role: str, content: str) -> Message:
    return Message.model_validate({"role": role, "content": content})
