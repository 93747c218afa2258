"""`messages`: the conversational format that TRL and most others read."""

from typing import ClassVar

from pipeline.records import Record
from stages.formats.base import Left, Line, OfRecords, reasoned, unfit


class Messages(OfRecords):
    """Turns with `role` and `content` (TRL); holds system and tool turns, several turns, and reasoning."""

    name: ClassVar[str] = "messages"

    def line(self, record: Record) -> Line | Left:
        """The whole conversation and the record's id."""
        return unfit(record) or Line({"id": record.id, "messages": reasoned(record)})
