"""Texts that people wrote, from a file: what the student still finds likely beside its teacher's words."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, NamedTuple

from pydantic import Field, field_validator

from filters.references import format_of, items
from pipeline.component import Component, PlanFile
from pipeline.errors import UsageError
from stages.intake import to_record
from stages.sources.jsonl import read_rows

LONGEST = 2000  # characters of a text; the same for every model, whose tokenizers differ


class Text(NamedTuple):
    """One text: a conversation whose last turn counts, or plain words."""

    where: str
    turns: list[dict[str, str]]
    text: str = ""

    @property
    def said(self) -> str:
        """What is measured."""
        return self.turns[-1]["content"] if self.turns else self.text

    @property
    def task(self) -> Any:
        """As `stages.measure` takes it."""
        return self.turns or self.text


class Human(Component):
    """Rows of a JSONL file with a text field, or conversations as `--input` reads them; or a text file's paragraphs."""

    file: PlanFile
    field: Annotated[str, Field(description="the field that holds a plain text")] = "text"
    rows: Annotated[int, Field(ge=1, description="the first so many")] = 100

    @field_validator("file")
    @classmethod
    def _readable(cls, file: Any) -> Any:
        format_of(file)
        return file

    def texts(self) -> list[Text]:
        """The texts. Raises UsageError with file and line."""
        found = list(islice((text for text in self._all() if text.said.strip()), self.rows))
        if not found:
            raise UsageError(f"{self.file} holds no text")
        return found

    def _all(self) -> Iterator[Text]:
        ending = format_of(self.file)
        if ending not in (".jsonl", ".ndjson") or self.file.suffix == ".gz":
            fields = () if ending in (".txt", ".md") else (self.field,)
            yield from (Text(item.where, [], item.text[:LONGEST]) for item in items(self.file, fields))
            return
        for row, where in read_rows(self.file):
            where = f"{self.file.name}:{where.rpartition(':')[2]}"
            if isinstance(plain := row.get(self.field), str):
                yield Text(where, [], plain[:LONGEST])
            else:
                yield Text(where, self._turns(row, where))

    def _turns(self, row: dict[str, Any], where: str) -> list[dict[str, str]]:
        turns = [turn.model_dump() for turn in to_record(row, where).messages]
        if turns[-1]["role"] != "assistant" or len(turns) < 2:
            raise UsageError(f"{where}: ends without an answer, and has no field {self.field!r}")
        return [*turns[:-1], turns[-1] | {"content": turns[-1]["content"][:LONGEST]}]
