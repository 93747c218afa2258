"""What models have answered, by request digest: nothing is asked twice, nothing answered is lost.

One SQLite file in WAL mode, shared by all versions of a run. A completion is committed before anyone
sees it, so a killed run loses at most what the engine had in flight. Keys come from `Request.key`; beside them stands
the `max_tokens` an answer was given under, so that raising it asks again only for what had been cut.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

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
            raise DataError(f"the memo {self.path} cannot be read: {error}", hint=DAMAGED) from error
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
            raise PipelineError(
                f"the memo {self.path} cannot be written: {error}",
                hint="make room on the disk or mend its rights; the same command goes on from what was remembered",
            ) from error
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        with suppress(sqlite3.Error):  # it may have been undone already, as a full disk does
            self._db.execute("rollback")

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from completion").fetchone()[0])


DAMAGED = "move it away; what it held will be asked again"
