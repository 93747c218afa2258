"""`openai`: a file for OpenAI's supervised fine-tuning."""

from typing import ClassVar

from pipeline.records import Record
from stages.formats.base import Left, Line, OfRecords, Written, turns, unfit

FEWEST, MOST_BYTES = 10, 512 * 10**6  # rows of a training file, and bytes of an upload in one part


class OpenAi(OfRecords):
    """Only `messages` (OpenAI fine-tuning); holds system turns and several turns, none of tools, no reasoning."""

    name: ClassVar[str] = "openai"

    def line(self, record: Record) -> Line | Left:
        """The conversation and nothing beside it: other keys are refused there."""
        if left := unfit(record):
            return left
        if any(m.role == "tool" for m in record.messages):
            return Left("tool_turn")  # there it answers a call by its id, and records hold no calls
        if not all(m.content.strip() for m in record.messages):
            return Left("empty_turn")
        return Line({"messages": turns(record.messages)}, ("reasoning",) if record.reasoning else ())

    def notes(self, written: Written) -> list[str]:
        """Too few rows, or too many bytes."""
        found = []
        if written.rows < FEWEST:
            found.append(f"OpenAI takes files of {FEWEST} rows and more; this one has {written.rows}")
        if written.bytes > MOST_BYTES:
            found.append(f"{written.bytes / 1e6:,.0f} MB: OpenAI takes 512 MB in one upload; larger files go in parts")
        return found
