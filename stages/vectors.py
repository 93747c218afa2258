"""Vectors of many records: computed once per text and model, kept in the run, mapped from a file.

`vectors.sqlite` in the run's folder remembers every vector by the digest of its text and of what made it, a window at
a time, so that a killed run goes on where it was and a second one loads no model. What a stage works on is an
`.npy` file of shape (N, D), float32, mapped into memory: rows in ascending order of the records' ids.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from pipeline import console
from pipeline.errors import DataError
from stages.spaces import Encoder, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 2048  # texts encoded together: sorted by length within it, little is padded; and what a kill may cost
LOOKUP = 500  # keys asked for in one query
BLOCK = 4096  # rows worked on at once


class Keys:
    """Names texts within a space: 16 bytes each."""

    def __init__(self, space: Space) -> None:
        self._made_by = hashlib.blake2b(orjson.dumps(space.meaning(), option=orjson.OPT_SORT_KEYS)).digest()

    def of(self, text: str) -> bytes:
        """The digest of a text and of what its vector depends on besides."""
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._made_by).digest()


class VectorCache:
    """Vectors on disk, by key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("create table if not exists vectors (key blob primary key, vector blob not null)")
        except sqlite3.Error as error:
            raise self._problem(error) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, keys: Iterable[bytes]) -> "dict[bytes, NDArray[np.float32]]":
        """The vectors that are there."""
        import numpy as np

        waiting = iter(keys)
        found: dict[bytes, NDArray[np.float32]] = {}
        try:
            while some := list(islice(waiting, LOOKUP)):
                marks = ",".join("?" * len(some))
                with closing(self._db.execute(f"select key, vector from vectors where key in ({marks})", some)) as rows:
                    found |= {key: np.frombuffer(vector, "<f4") for key, vector in rows}
        except sqlite3.Error as error:
            raise self._problem(error) from error
        return found

    def put(self, keys: list[bytes], vectors: "NDArray[np.float32]") -> None:
        """Remember vectors, all in one transaction."""
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in zip(keys, vectors, strict=True)]
        try:
            self._db.execute("begin")
            self._db.executemany("insert or replace into vectors values (?, ?)", rows)
            self._db.execute("commit")
        except sqlite3.Error as error:
            raise self._problem(error) from error

    def _problem(self, error: sqlite3.Error) -> DataError:
        return DataError(f"{self._path}: {error}", hint="if it is damaged delete it: its vectors are computed again")


class Gathering:
    """Fills the rows of one `.npy` file from the cache and the model."""

    def __init__(self, space: Space, cache: VectorCache, target: Path, rows: int) -> None:
        self._space, self._cache, self._target, self._rows = space, cache, target, rows
        self._encoder: Encoder | None = None
        self._vectors: NDArray[np.float32] | None = None
        self.encoded = 0

    def fill(self, keys: "list[bytes]", texts: Iterator[tuple[int, str]]) -> "NDArray[np.float32]":
        """Vectors (N, D): row n for `keys[n]`; `texts` gives the text of every row once, in any order."""
        missing = self._remembered(keys)
        try:
            if missing:
                self._encode(keys, missing, texts)
        finally:
            if self._encoder is not None:
                self._encoder.close()
        assert self._vectors is not None, "there is at least one row"
        self._vectors.flush()  # type: ignore[attr-defined]  # a memmap
        return self._vectors

    def _remembered(self, keys: list[bytes]) -> set[int]:
        """Place what the cache has; the rows it lacks."""
        missing: set[int] = set()
        for start in range(0, len(keys), BLOCK):
            block = keys[start : start + BLOCK]
            found = self._cache.get(block)
            for n, key in enumerate(block, start):
                if key in found:
                    self._place(n, found[key])
                else:
                    missing.add(n)
        return missing

    def _encode(self, keys: list[bytes], missing: set[int], texts: Iterator[tuple[int, str]]) -> None:
        wanted = ((n, text) for n, text in texts if n in missing)
        self._encoder = self._space.open()
        with console.Bar("embed", len(missing)) as bar:
            while window := list(islice(wanted, WINDOW)):
                found = self._cache.get({keys[n] for n, _ in window})  # the same text may have come before
                new = {keys[n]: text for n, text in window if keys[n] not in found}
                if new:
                    vectors = self._encoder.encode(list(new.values()))
                    self._cache.put(list(new), vectors)
                    self.encoded += len(new)
                    found |= dict(zip(new, vectors, strict=True))
                for n, _ in window:
                    self._place(n, found[keys[n]])
                bar.advance(len(window))

    def _place(self, row: int, vector: "NDArray[np.float32]") -> None:
        import numpy as np

        if self._vectors is None:
            shape = (self._rows, len(vector))
            self._vectors = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                self._target, mode="w+", dtype=np.float32, shape=shape
            )
        self._vectors[row] = vector


def usable(vectors: "NDArray[np.float32]") -> "NDArray[np.bool_]":
    """Which rows can be compared: finite, and not all zero."""
    import numpy as np

    found = np.empty(len(vectors), bool)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        found[start : start + BLOCK] = np.isfinite(block).all(1) & block.any(1)
    return found
