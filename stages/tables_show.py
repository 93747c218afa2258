"""Rows as a person looks at them: cards of records, or a table of columns that fits the terminal."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline import console
from pipeline.records import Record
from pipeline.visible import line, visible
from stages import tables

ANSWER = 2000  # characters of an answer on a card
CELL = 400  # characters of a cell: more than any terminal shows
GAP = 2  # spaces between columns


def cards(lines: Iterable[bytes]) -> Iterator[RenderableType]:
    """One card after the other; a line that is no record as its fields."""
    for one in lines:
        row = orjson.loads(one)
        if "checks" in row:
            card = tables.card(Record.model_validate(row), ANSWER)
            if isinstance(card, Text):
                card.plain = visible(card.plain)
            yield card
        else:
            parts = [Text.assemble((f"{visible(k)}  ", "dim"), line(_cell(v), ANSWER)) for k, v in row.items()]
            yield Text("   " if _numbers(row.values()) else "\n").join(parts)


def table(rows: list[dict[str, Any]], names: list[str]) -> Table:
    """One line a row, as wide as the terminal at most: the widest columns are cut. Numbers stand to the right."""
    made = console.table(*names, right=tuple(name for name in names if _numbers(row.get(name) for row in rows)))
    cells = [[line(_cell(row.get(name)), CELL) for name in names] for row in rows]
    columns = list(zip(map(visible, names), *cells, strict=True))
    widths = _fitting([max(map(cell_len, column)) for column in columns], console.width() - GAP * (len(names) - 1))
    for column, name, width in zip(made.columns, names, widths, strict=True):
        column.header, column.width = _cut(visible(name)), width
    for row in cells:
        made.add_row(*map(_cut, row))
    return made


def _fitting(widths: list[int], room: int) -> list[int]:
    """Widths that come to `room` at most: none is made smaller while there is a wider one."""
    most = max(widths)
    while most > 1 and sum(min(width, most) for width in widths) > room:
        most -= 1
    return [min(width, most) for width in widths]


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float | None) for value in values)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case float():
            return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return orjson.dumps(value).decode()
