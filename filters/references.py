"""Evaluation sets as local files: their texts, item by item."""

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline.errors import UsageError

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md")
CELL = 1 << 30  # characters of the longest CSV cell; the default refuses long passages


class Item(NamedTuple):
    """One text of an evaluation set."""

    where: str
    text: str


def format_of(path: Path) -> str:
    """The ending that says how a file is read. Raises UsageError for one that is not known."""
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending.lower() not in FORMATS or (ending == ".parquet" and path.suffix == ".gz"):
        raise UsageError(
            f"{path}: not a kind of file this reads", hint=f"{', '.join(FORMATS)}; all but Parquet may be .gz"
        )
    return ending.lower()


def items(path: Path, fields: Sequence[str] = ()) -> Iterator[Item]:
    """The texts of a file: of the fields named, else of every field that holds text, lists and objects looked into.

    Plain text is cut at empty lines, or at every line where there are none. Raises UsageError with file and line.
    """
    name = "/".join(path.parts[-2:])
    if (ending := format_of(path)) in (".txt", ".md"):
        for number, part in _paragraphs(_text(path)):
            yield Item(f"{name}:{number}", part)
        return
    for number, row in _rows(path, ending):
        if fields and isinstance(row, dict) and not set(fields) & row.keys():
            raise UsageError(f"{path}:{number} has none of the fields {', '.join(fields)}; it has {', '.join(row)}")
        wanted = [row[f] for f in fields if f in row] if fields and isinstance(row, dict) else [row]
        for text in _strings(wanted):
            yield Item(f"{name}:{number}", text)


def _rows(path: Path, ending: str) -> Iterator[tuple[int, Any]]:
    if ending == ".parquet":
        import duckdb

        try:
            found = duckdb.connect().read_parquet(str(path))
            for number, row in enumerate(found.fetchall(), 1):
                yield number, dict(zip(found.columns, row, strict=True))
        except duckdb.Error as error:
            raise UsageError(f"{path} is not Parquet: {str(error).splitlines()[0]}") from error
        return
    text = _text(path)
    if ending in (".csv", ".tsv"):
        yield from _cells(path, text, "\t" if ending == ".tsv" else ",")
    elif ending == ".json":
        yield from _array(path, text)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, _parsed(line, f"{path}:{number}")


def _array(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    whole = _parsed(text, str(path))
    yield from enumerate(whole if isinstance(whole, list) else [whole], 1)


def _cells(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = next(reader, [])
        yield 1, dict.fromkeys(header) | {str(n): cell for n, cell in enumerate(header)}  # a file without a header
        for row in reader:
            yield reader.line_num, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num} is not CSV: {error}") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON ({error.msg}, column {error.colno})") from error


def _text(path: Path) -> str:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line} is not UTF-8") from error
    except (OSError, EOFError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    lines = text.splitlines()
    apart = any(not line.strip() for line in "\n".join(lines).strip().split("\n"))
    begin = 0
    for number, line in enumerate([*lines, ""]):
        if not apart or not line.strip():
            part = "\n".join(lines[begin : number + (not apart)]).strip()
            if part:
                yield begin + 1, part
            begin = number + 1


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _strings(inner)
        case list() | tuple():
            for inner in value:
                yield from _strings(inner)
