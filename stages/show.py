"""show: look at the rows of a version, filtered and as JSON where wanted."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import UsageError
from pipeline.records import Record
from pipeline.store import Shard, Version

ANY = "*"


def rows(version: Version, shard: Shard, reason: str = "", where: str = "") -> Iterator[Record]:
    """Rows of one sort, those dropped for `reason` only, those for which the SQL `where` holds."""
    records = version.read(shard)
    if reason and reason != ANY:
        known = {r for t in version.manifest.ledger for r in t.dropped} | {t.step for t in version.manifest.ledger}
        if reason not in known:
            raise UsageError(f"nothing was dropped for {reason!r}; there are: {', '.join(sorted(known))}")
        records = (r for r in records if reason in (r.reason, r.by))
    if where:
        wanted = matching(version, shard, where)
        records = (r for r in records if r.id in wanted)
    return records


def matching(version: Version, shard: Shard, where: str) -> set[str]:
    """Ids for which a DuckDB condition holds over the fields, `scores.NAME`, `meta`, `answer` and `prompt`."""
    import duckdb

    files = [str(version.path / s.file) for s in version.manifest.shards if s.file.startswith(f"{shard}-")]
    if not files:
        return set()
    names = sorted({c.name for r in islice(version.read(shard), 1000) for c in r.checks})
    scores = ", ".join(f"\"{n}\": list_filter(checks, lambda c: c.name = '{n}')[1].value" for n in names)
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
                hint="fields: id, split, answer, prompt, by, reason, score, made_by.*, meta->>'NAME', "
                + ", ".join(f"scores.{n}" for n in names),
            ) from error


def lines(path: Path, n: int) -> list[dict[str, Any]]:
    """The first rows of another JSONL file of a version (`scores.jsonl`, `metrics.jsonl`)."""
    with path.open("rb") as file:
        return [orjson.loads(line) for line in islice(file, n)]
