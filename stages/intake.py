"""Rows for a stage that is run on a file: this project's records, or any common JSONL of examples.

Understood besides records: `messages`; `prompt` and `completion`; `instruction`, `input`, `output`
(Alpaca); `conversations` with `from` and `value` (ShareGPT). Other keys are carried in `meta`.
"""

import hashlib
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from pipeline.errors import DataError, UsageError
from pipeline.records import Check, Message, Record, Split, digest
from pipeline.store import Shard, Version
from stages.sources.jsonl import read_rows

READ = "read"  # the step that drops lines which are no rows
LONGEST = 8 << 20  # bytes of a line that is still read
SHOWN = 2000  # bytes of a broken line that its dropped row shows
DATE = re.compile(r"\d{4}-\d\d")
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class Raw(NamedTuple):
    """One line as it lies on disk; `where` is the place in a foreign file, "" in a version of this project."""

    line: bytes
    where: str = ""


class VersionRows:
    """The rows of a version, at most `limit` of each sort."""

    def __init__(self, version: Version, limit: int | None = None) -> None:
        self._version, self._limit = version, limit

    def read(self, shard: Shard) -> Iterator[Record]:
        """Rows in order, checked against the manifest."""
        yield from map(record_of, self._lines(shard))

    def count(self, shard: Shard) -> int | None:
        """As the manifest says."""
        rows = self._version.rows(shard)
        return rows if self._limit is None else min(rows, self._limit)

    def raw(self) -> Iterator[Raw]:
        """What a filter reads, unparsed: rows for training, then held-out ones."""
        yield from self._lines("kept")
        yield from self._lines("heldout")

    def _lines(self, shard: Shard) -> Iterator[Raw]:
        return (Raw(line) for line in islice(self._version.lines(shard), self._limit))


class FileRows:
    """The rows of a JSONL file, made into records. With `quarantine` a broken line is a dropped row, else refused."""

    def __init__(self, path: Path, limit: int | None = None, *, quarantine: bool = False) -> None:
        self._path, self._limit = path, limit
        if not quarantine:
            for _ in read_rows(path):  # refused here, before anything is written
                pass

    def read(self, shard: Shard) -> Iterator[Record]:
        """Rows whose split is the one wanted, in file order. Raises UsageError at a broken line."""
        if shard == "dropped":
            return
        wanted: Split = "heldout" if shard == "heldout" else "train"
        records = (r for r in self._records() if r.split == wanted)
        yield from islice(records, self._limit)

    def count(self, shard: Shard) -> int | None:
        """Not known without reading."""
        return None

    def raw(self) -> Iterator[Raw]:
        """Every line that is not blank, unparsed, in file order."""
        with self._path.open("rb") as file:
            lines = (Raw(line, f"{self._path}:{n}") for n, line in enumerate(file, 1) if line.strip())
            yield from islice(lines, self._limit)

    def _records(self) -> Iterator[Record]:
        ids = Ids()
        for row, where in read_rows(self._path):
            record = to_record(row, where)
            yield record.model_copy(update={"id": ids.own(record.id)})


class Ids:
    """Tells rows apart that bring the same id: the second and later get a digest of it and their number."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def own(self, record_id: str) -> str:
        """The id a row may keep."""
        self._seen[record_id] = nth = self._seen.get(record_id, 0) + 1
        return record_id if nth == 1 else digest([record_id, nth])


def record_of(raw: Raw) -> Record:
    """A line as a record; a broken line of a foreign file as a dropped one that shows where and why.

    Raises DataError for a line of a version that is no record: somebody has written there.
    """
    if not raw.where:
        try:
            return Record.model_validate_json(raw.line)
        except ValidationError as error:
            raise DataError(f"a version holds a row that is no record: {raw.line[:80]!r}: {error}") from error
    try:
        return to_record(_object(raw.line), raw.where)
    except Broken as broken:
        return _quarantined(raw, broken.reason, broken.detail)
    except UsageError as error:
        return _quarantined(raw, "no_conversation", str(error).removeprefix(f"{raw.where}: "))


class Broken(ValueError):  # noqa: N818  (an outcome, not a fault)
    """A line that holds no row; `reason` is a slug."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > LONGEST:
        raise Broken("line_too_long", f"{len(line) / 2**20:.1f} MiB, over {LONGEST / 2**20:.0f} MiB")
    try:
        row = orjson.loads(line.strip().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        try:
            line.decode()
        except UnicodeDecodeError as bad:
            raise Broken("not_utf8", f"byte {bad.start} of the line") from error
        raise Broken("not_json", f"{error.msg}, column {error.colno}") from error
    if not isinstance(row, dict):
        raise Broken("not_an_object")
    return row


def _quarantined(raw: Raw, reason: str, detail: str) -> Record:
    """A dropped row that holds the beginning of what the line said."""
    said = raw.line[:SHOWN].decode("utf-8", "replace").strip()
    own = digest([hashlib.sha256(raw.line).hexdigest(), raw.where.rpartition(":")[2]])
    record = Record(
        id=own, task="given", messages=[_said("user", said)], seeds=[own], checks=[Check(name="given")], meta={}
    )
    where = f"{raw.where}: {detail}".removesuffix(": ")
    return record.checked(Check(name=READ, passed=False, reason=reason, detail=where))


def to_record(row: dict[str, Any], where: str) -> Record:
    """One row as a record. Raises UsageError that says what is missing."""
    try:
        if {"id", "messages", "checks", "made_by"} <= row.keys():
            return Record.model_validate(row | {"by": "", "reason": "", "score": 0.0, "detail": ""})
        messages, used = _messages(row)
        said = [m.model_dump() for m in messages]
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where}: not a conversation: {' '.join(str(error).split())[:200]}") from error
    if not messages and {"chosen", "rejected"} <= row.keys():
        raise UsageError(f"{where}: is a preference pair, which the objectives dpo and dpkd train on")
    if not messages:
        raise UsageError(
            f"{where}: holds no example; it needs `messages`, `prompt` and `completion`, "
            "`instruction` and `output`, or `conversations`"
        )
    turns = row.get("messages") or row.get("completion")
    last = turns[-1] if isinstance(turns, list) and turns else {}
    own = _own_id(row.get("id")) or digest(said)
    meta = {k: v for k, v in row.items() if k not in used and k != "id"}
    return Record(
        id=own, task="given", messages=messages, reasoning=str(last.get("reasoning_content") or ""), seeds=[own],
        checks=[Check(name="given")], meta=meta,
    )  # fmt: skip


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
