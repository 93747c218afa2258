"""`alpaca`: one instruction and one output."""

from typing import ClassVar

from pipeline.records import Record
from stages.formats.base import Left, Line, OfRecords, unfit


class Alpaca(OfRecords):
    """`instruction`, `input` (always empty) and `output`; holds one question and its answer, nothing else."""

    name: ClassVar[str] = "alpaca"

    def line(self, record: Record) -> Line | Left:
        """A single exchange; the prompt is the instruction as it was asked."""
        if left := unfit(record):
            return left
        roles = [m.role for m in record.messages]
        if "system" in roles:
            return Left("system_turn")
        if "tool" in roles:
            return Left("tool_turn")
        if roles != ["user", "assistant"]:
            return Left("several_turns")
        value = {"id": record.id, "instruction": record.prompt, "input": "", "output": record.answer}
        return Line(value, ("reasoning",) if record.reasoning else ())
