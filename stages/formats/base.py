"""What a format is: one line per row in the shape a trainer reads, and what it has to leave out.

A row that a format cannot hold is left out under a reason, a slug; what a row loses that is written all the same has a
slug, too. Both are counted, so that nothing goes silently.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pipeline.records import Message, Record
from pipeline.run import Run
from pipeline.store import Version


class Left(NamedTuple):
    """A row that the format cannot hold, and why."""

    reason: str


class Line(NamedTuple):
    """What is written of a row; `lost` is what of it is not."""

    value: dict[str, Any]
    lost: tuple[str, ...] = ()


class Written(NamedTuple):
    """The file of an export: its rows, its size in bytes, and the name that a trainer knows it by."""

    file: Path
    rows: int
    bytes: int
    name: str


class Format(ABC):
    """Base of the formats. The docstring is its help: who reads it, and what it holds."""

    name: ClassVar[str]
    suffix: ClassVar[str] = ".jsonl"
    folder: ClassVar[bool] = False
    """whether other files go beside the rows, so that it needs a folder"""

    @abstractmethod
    def lines(self, run: Run, version: Version) -> Iterator[Line | Left]:
        """The rows of a version for training, one by one, in their order."""

    def finish(self, rows: Path) -> Path:
        """What becomes the file: the JSON lines at `rows`, or another file beside them that is made of these."""
        return rows

    def beside(self, written: Written) -> list[Path]:
        """Write what goes beside the rows; the files."""
        return []

    def notes(self, written: Written) -> list[str]:
        """What the consumer asks of a whole file, where this one falls short of it."""
        return []


class OfRecords(Format):
    """Base of the formats in which a line is one record."""

    @abstractmethod
    def line(self, record: Record) -> Line | Left:
        """The record as it is written, or why it is not."""

    def lines(self, run: Run, version: Version) -> Iterator[Line | Left]:
        """Every kept row."""
        return map(self.line, version.read("kept"))


def unfit(record: Record) -> Left | None:
    """A conversation from which no answer to a prompt can be learned."""
    if record.messages[-1].role != "assistant":
        return Left("no_answer")
    if len(record.messages) == 1:
        return Left("no_prompt")
    return None


def turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns as `role` and `content`."""
    return [{"role": m.role, "content": m.content} for m in messages]


def reasoned(record: Record) -> list[dict[str, Any]]:
    """All turns; the thinking before the last one stands in its `reasoning_content`, as chat templates read it."""
    said = turns(record.messages)
    if record.reasoning:
        said[-1]["reasoning_content"] = record.reasoning
    return said


def alternates(messages: Sequence[Message], *, tools: bool = False) -> bool:
    """Whether user (or, with `tools`, tool) and assistant take turns, after one system turn at most."""
    said = messages[1:] if messages[0].role == "system" else messages
    asking = ("user", "tool") if tools else ("user",)
    return all(m.role in (asking if n % 2 == 0 else ("assistant",)) for n, m in enumerate(said))
