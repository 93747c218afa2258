"""`prompt_completion`: what was asked, and what is to be learned."""

from typing import ClassVar

from pipeline.records import Record
from stages.formats.base import Left, Line, OfRecords, reasoned, unfit


class PromptCompletion(OfRecords):
    """`prompt` and `completion` as lists of turns (TRL): the loss is on the last turn; holds what messages holds."""

    name: ClassVar[str] = "prompt_completion"

    def line(self, record: Record) -> Line | Left:
        """All turns but the last, and the last."""
        said = reasoned(record)
        return unfit(record) or Line({"id": record.id, "prompt": said[:-1], "completion": said[-1:]})
