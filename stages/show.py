"""show: look at the rows of a version: filtered, drawn by chance, as columns, and as JSON where wanted."""

import heapq
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline.config import nearest
from pipeline.errors import DataError, UsageError
from pipeline.records import Record, digest
from pipeline.store import Shard, Version

ANY = "*"
FIRST = 1000  # rows that names of scores and fields are gathered from
OTHERS = {"train": "metrics.jsonl", "evaluate": "samples.jsonl"}
"""What stages show that write no records."""


class Wanted(NamedTuple):
    """Which rows: of one sort, dropped for `reason`, where a condition in SQL holds; of those a sample."""

    shard: Shard = "kept"
    reason: str = ""
    where: str = ""
    sample: int | None = None
    seed: int = 0


def rows(version: Version, wanted: Wanted) -> Iterator[bytes]:
    """Lines of a version, in order; of a sample in the order drawn. Raises UsageError for what is not there."""
    if other := OTHERS.get(version.manifest.stage):
        if wanted._replace(seed=0) != Wanted():
            raise UsageError(
                f"{version.manifest.stage} writes no records to choose from",
                hint="`pipeline show PLAN curate` shows what it read",
            )
        return _others(version.path / other)
    lines = version.lines(wanted.shard)
    if wanted.reason and wanted.reason != ANY:
        known = {r for t in version.manifest.ledger for r in t.dropped} | {t.step for t in version.manifest.ledger}
        if wanted.reason not in known:
            there = ", ".join(sorted(known))
            raise UsageError(f"nothing was dropped for {wanted.reason!r}; there are: {there}")
        lines = (line for line in lines if wanted.reason in _of(line, "reason", "by"))
    if wanted.where:
        ids = matching(version, wanted.shard, wanted.where)
        lines = (line for line in lines if _of(line, "id")[0] in ids)
    if wanted.sample is not None:
        return iter(heapq.nsmallest(wanted.sample, lines, key=lambda line: digest([wanted.seed, *_of(line, "id")])))
    return lines


def _of(line: bytes, *keys: str) -> list[Any]:
    row = orjson.loads(line)
    return [row[key] for key in keys]


def _others(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing", hint=f"delete the folder {path.parent} and run the stage again"
        ) from error


def matching(version: Version, shard: Shard, where: str) -> set[str]:
    """Ids for which a DuckDB condition holds over the fields, `scores.NAME`, `meta`, `answer` and `prompt`."""
    import duckdb

    files = [str(version.path / s.file) for s in version.manifest.shards if s.file.startswith(f"{shard}-")]
    if not files:
        return set()
    names = sorted({c.name for r in islice(version.read(shard), FIRST) for c in r.checks})
    scores = ", ".join(
        f"{_quoted(n, DOUBLE)}: list_filter(checks, lambda c: c.name = {_quoted(n)})[1].value" for n in names
    )
    query = f"""
        select id from (
            select * exclude (meta), meta::json as meta, {{{scores}}} as scores,
                list_filter(messages, lambda m: m.role = 'assistant')[-1].content as answer,
                list_filter(messages, lambda m: m.role = 'user')[-1].content as prompt
            from read_json($files, format = 'newline_delimited')
        ) where {where}
    """
    with duckdb.connect(config={"threads": os.cpu_count() or 1}) as db:
        try:
            return {row[0] for row in db.execute(query, {"files": files}).fetchall()}
        except duckdb.Error as error:
            raise UsageError(
                f"--where {where}: {str(error).splitlines()[0]}",
                hint='fields: id, split, answer, prompt, "by" (in quotes: a word of SQL), reason, score, made_by.*, '
                "meta->>'NAME', " + ", ".join(f"scores.{n}" for n in names),
            ) from error


DOUBLE = '"'


def _quoted(name: str, mark: str = "'") -> str:
    return mark + name.replace(mark, 2 * mark) + mark


def view(line: bytes) -> dict[str, Any]:
    """A line by the names of its columns: of a record `answer`, `prompt`, `scores` and `meta` unpacked, too."""
    row: dict[str, Any] = orjson.loads(line)
    if "checks" not in row:
        return row
    record = Record.model_validate(row)
    scores = {check.name: check.value for check in record.checks}
    return row | {"answer": record.answer, "prompt": record.prompt, "scores": scores, "meta": record.meta}


def columns(version: Version, shard: Shard, lines: Iterable[bytes], names: list[str]) -> Iterator[dict[str, Any]]:
    """These columns of each line, as `answer`, `scores.judge`, `meta.topic`, `made_by.model`; None where it has none.

    Raises UsageError for a name that no row of that sort has.
    """
    first = [view(line) for line in islice(rows(version, Wanted(shard)), FIRST)]
    known = [*dict.fromkeys(name for row in first for name in _names(row)), *_steps(version)]
    for name in names:
        if name not in known and all(value(row, name) is None for row in first):
            raise UsageError(f"--columns: no row has {name!r}{nearest(name, known)}")
    return ({name: value(row, name) for name in names} for row in map(view, lines))


def _names(row: dict[str, Any]) -> Iterator[str]:
    for key, inside in row.items():
        yield key
        if isinstance(inside, dict):
            yield from (f"{key}.{name}" for name in inside)


def _steps(version: Version) -> Iterator[str]:
    """Scores that the first rows may lack, since a rule before dropped them."""
    return (f"scores.{tally.step}" for tally in version.manifest.ledger)


def value(row: dict[str, Any], name: str) -> Any:
    """What stands at `a.b` of nested objects, or under a key that holds the dot. None where there is nothing."""
    if name in row:
        return row[name]
    head, _, rest = name.partition(".")
    inside = row.get(head)
    return value(inside, rest) if rest and isinstance(inside, dict) else None


def lines(path: Path, n: int) -> list[dict[str, Any]]:
    """The first rows of another JSONL file of a version (`scores.jsonl`, `metrics.jsonl`)."""
    with path.open("rb") as file:
        return [orjson.loads(line) for line in islice(file, n)]
