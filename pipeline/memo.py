"""What models have answered, by request digest: nothing is asked twice, nothing answered is lost.

One SQLite file in WAL mode, shared by all versions of a run. A completion is committed before anyone
sees it, so a killed run loses at most what the engine had in flight. Keys come from `Request.key`.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import orjson

from pipeline.engines.base import Completion
from pipeline.errors import DataError

SCHEMA = """
create table if not exists scheme (version integer not null);
create table if not exists completion (
    key text primary key, engine text not null, answer text not null
) without rowid;
"""
SCHEME = 1


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
            raise DataError(f"the memo {path} cannot be read: {error}", hint=DAMAGED) from error
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

    def get(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The remembered completions among `keys`."""
        wanted = list(keys)
        marks = ",".join("?" * len(wanted))
        try:
            rows = self._db.execute(f"select key, answer from completion where key in ({marks})", wanted)
            return {key: Completion.model_validate_json(answer) for key, answer in rows}
        except (sqlite3.Error, ValueError) as error:
            raise DataError(f"the memo {self.path} cannot be read: {error}", hint=DAMAGED) from error

    def put(self, engine: dict[str, str], completions: Mapping[str, Completion]) -> None:
        """Remember completions by key, all in one transaction; on disk when this returns."""
        said_by = orjson.dumps(engine).decode()
        rows = [(key, said_by, completion.model_dump_json()) for key, completion in completions.items()]
        self._db.execute("begin immediate")
        try:
            self._db.executemany("insert or replace into completion values (?, ?, ?)", rows)
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from completion").fetchone()[0])


DAMAGED = "move it away; what it held will be asked again"
