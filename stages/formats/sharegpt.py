"""`sharegpt`: `conversations` of `from` and `value`."""

from typing import ClassVar

from pipeline.records import Record
from stages.formats.base import Left, Line, OfRecords, unfit

NAMES = {"system": "system", "user": "human", "assistant": "gpt"}


class ShareGpt(OfRecords):
    """`conversations` with `from` and `value`; holds system turns and several turns, no tool turns, no reasoning."""

    name: ClassVar[str] = "sharegpt"

    def line(self, record: Record) -> Line | Left:
        """The conversation; its reasoning has no place."""
        if left := unfit(record):
            return left
        if any(m.role not in NAMES for m in record.messages):
            return Left("tool_turn")
        said = [{"from": NAMES[m.role], "value": m.content} for m in record.messages]
        return Line({"id": record.id, "conversations": said}, ("reasoning",) if record.reasoning else ())
