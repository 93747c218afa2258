"""`llama_factory`: rows and their entry in `dataset_info.json`."""

from pathlib import Path
from typing import Any, ClassVar

import orjson

from pipeline.errors import UsageError
from pipeline.records import Record
from pipeline.store import pretty, write_atomic
from stages.formats.base import Left, Line, OfRecords, Written, alternates, turns, unfit

INFO = "dataset_info.json"
TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "observation_tag": "tool", "system_tag": "system",
}  # fmt: skip


class LlamaFactory(OfRecords):
    """Turns and `dataset_info.json` (LLaMA-Factory); user (or tool) and assistant alternate after one system turn.

    Reasoning goes into the last turn between `<think>` tags, as its templates for reasoning models do.
    """

    name: ClassVar[str] = "llama_factory"
    folder: ClassVar[bool] = True

    def line(self, record: Record) -> Line | Left:
        """The conversation, where its turns alternate: others are skipped there with no more than a log line."""
        if left := unfit(record):
            return left
        if not alternates(record.messages, tools=True):
            return Left("turns_do_not_alternate")
        said = turns(record.messages)
        if record.reasoning:
            said[-1]["content"] = f"<think>\n{record.reasoning}\n</think>\n\n{record.answer}"
        return Line({"messages": said})

    def beside(self, written: Written) -> list[Path]:
        """The entry, beside those that the folder's file has already. Raises UsageError where that is unreadable."""
        info = written.file.with_name(INFO)
        columns = {"messages": "messages"}
        entry = {"file_name": written.file.name, "formatting": "sharegpt", "columns": columns, "tags": TAGS}
        write_atomic(info, pretty(_entries(info) | {written.name: entry}))
        return [info]


def _entries(info: Path) -> dict[str, Any]:
    if not info.is_file():
        return {}
    try:
        found = orjson.loads(info.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{info} is not JSON ({error.msg}): mend it, or name another folder") from error
    if not isinstance(found, dict):
        raise UsageError(f"{info} is no JSON object: mend it, or name another folder")
    return found
