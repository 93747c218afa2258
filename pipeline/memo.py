"""What models have answered, by request digest: nothing is asked twice, nothing answered is lost.

One SQLite file in WAL mode, shared by all versions of a run. A completion is committed before anyone
sees it, so a killed run loses at most what the engine had in flight. Keys come from `Request.key`; beside them stands
the `max_tokens` an answer was given under, so that raising it asks again only for what had been cut.
"""

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import orjson

from pipeline.engines.base import Completion
from pipeline.errors import DataError, PipelineError

SCHEMA = """
create table if not exists scheme (version integer not null);
create table if not exists completion (
    key text, max_tokens integer, engine text not null, answer text not null, primary key (key, max_tokens)
) without rowid;
"""
SCHEME = 2
Place = tuple[str, int]  # a request's key and its max_tokens


class Memo:
    """A durable map from request digest to completion."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            self._db.executescript(SCHEMA)
            found = self._db.execute("select version from scheme").fetchone()
        except sqlite3.Error as error:
            raise _problem(path, error) from error
        if found is None:
            self._db.execute("insert into scheme values (?)", (SCHEME,))
        elif found[0] != SCHEME:
            raise DataError(f"the memo {path} has scheme {found[0]}; this release reads {SCHEME}", hint=DAMAGED)

    def __enter__(self) -> "Memo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def get(self, places: Iterable[Place]) -> dict[Place, Completion]:
        """The remembered completions that serve `places`."""
        wanted: dict[str, set[int]] = {}
        for key, limit in places:
            wanted.setdefault(key, set()).add(limit)
        marks = ",".join("?" * len(wanted))
        query = f"select key, max_tokens, answer from completion where key in ({marks}) order by max_tokens"
        found: dict[Place, Completion] = {}
        try:
            for key, under, answer in self._db.execute(query, list(wanted)):
                completion = Completion.model_validate_json(answer)
                found |= {(key, limit): completion for limit in wanted[key] if completion.serves(under, limit)}
        except (sqlite3.Error, ValueError) as error:
            raise _problem(self.path, error) from error
        return found

    def put(self, engine: dict[str, str], completions: Mapping[Place, Completion]) -> None:
        """Remember completions, all in one transaction; on disk when this returns. Raises PipelineError."""
        if not completions:
            return
        said_by = orjson.dumps(engine).decode()
        rows = [
            (key, under, said_by, c.model_dump_json(exclude_defaults=True)) for (key, under), c in completions.items()
        ]
        try:
            self._db.execute("begin immediate")
            self._db.executemany("insert or replace into completion values (?, ?, ?, ?)", rows)
            self._db.execute("commit")
        except sqlite3.Error as error:
            self._undo()
            raise _problem(self.path, error) from error
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        with suppress(sqlite3.Error):  # it may have been undone already, as a full disk does
            self._db.execute("rollback")

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from completion").fetchone()[0])

    def engines(self) -> list[tuple[str, int, int, int]]:
        """For each engine: its words, and how many completions, prompt tokens and answer tokens are remembered."""
        query = """
            select engine, count(*), sum(json_extract(answer, '$.prompt_tokens')),
                sum(json_extract(answer, '$.completion_tokens'))
            from completion group by engine order by engine
        """
        try:
            return [(said_by, n, asked or 0, said or 0) for said_by, n, asked, said in self._db.execute(query)]
        except sqlite3.Error as error:
            raise _problem(self.path, error) from error


class Repaired(NamedTuple):
    """What a repair saved, and where the damaged file went."""

    saved: int
    aside: Path


def repair(path: Path) -> Repaired:
    """Move a damaged memo aside and write what can still be read of it into a new one.

    Rows are read from both ends of each of 256 ranges of keys, so a damaged page costs the rows on it alone.
    """
    aside = next(p for n in itertools.count(1) if not (p := path.with_name(f"memo.damaged-{n}.sqlite")).exists())
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    saved = 0
    with Memo(path) as memo, closing(sqlite3.connect(aside)) as damaged:
        for first, order in itertools.product(range(256), ("asc", "desc")):
            rows: dict[str, dict[Place, Completion]] = {}
            for said_by, place, completion in _salvaged(damaged, first, order):
                rows.setdefault(said_by, {})[place] = completion
            for said_by, completions in rows.items():
                memo.put(orjson.loads(said_by), completions)
        saved = len(memo)
    return Repaired(saved, aside)


def _salvaged(damaged: sqlite3.Connection, first: int, order: str) -> Iterator[tuple[str, Place, Completion]]:
    """Rows whose keys begin with one byte, until the first that cannot be read."""
    query = f"select key, max_tokens, engine, answer from completion where key >= ? and key < ? order by key {order}"
    try:
        for key, under, said_by, answer in damaged.execute(query, (f"{first:02x}", f"{first:02x}g")):
            orjson.loads(said_by)
            yield said_by, (str(key), int(under)), Completion.model_validate_json(answer)
    except (sqlite3.Error, ValueError, TypeError):
        return


def _problem(path: Path, error: Exception) -> PipelineError:
    """Damage, or a disk that does not do what it should."""
    damaged = not isinstance(error, sqlite3.OperationalError) or "malformed" in str(error)
    if damaged:
        return DataError(f"the memo {path} cannot be read: {error}", hint=DAMAGED)
    return PipelineError(
        f"the memo {path} cannot be used: {error}",
        hint="make room on the disk or mend its rights; the same command goes on from what was remembered",
    )


DAMAGED = "`pipeline memo PLAN --repair` saves what can be read; what is lost will be asked again"
