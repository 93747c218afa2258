"""Seeds from a JSONL file: one object a line, its keys are the seed's fields."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from pipeline.component import PlanFile
from pipeline.errors import UsageError
from stages.sources.base import Source


class Jsonl(Source):
    """Rows of a JSONL file."""

    kind: Literal["jsonl"] = "jsonl"
    path: PlanFile
    count: Annotated[int | None, Field(ge=1, description="the first so many rows; all when left out")] = None

    def fields(self) -> set[str]:
        """The keys of the first row."""
        first = next(read_rows(self.path), None)
        if first is None:
            raise UsageError(f"{self.path} has no rows")
        return set(first[0])

    def rows(self, seed: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Rows in file order."""
        return itertools.islice(read_rows(self.path), self.count)


def read_rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Objects of a JSONL file with their `file:line`. Raises UsageError at the first bad line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except orjson.JSONDecodeError as error:
                raise UsageError(f"{where} is not JSON ({error.msg}, column {error.colno})") from error
            if not isinstance(row, dict):
                raise UsageError(f"{where} is not a JSON object")
            yield row, where
