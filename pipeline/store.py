"""Versions on disk: immutable folders of JSONL shards under a manifest that is written last.

`<stage>/0001-3fa9c1d2/` holds `kept-*.jsonl`, `heldout-*.jsonl` and `dropped-*.jsonl` (sealed shards of a
fixed row count, each written to a temporary file, synced and renamed) and `manifest.json`. A folder
without a manifest is not a version: whatever a killed run left there is cleared and made again.
"""

import hashlib
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.component import file_digest
from pipeline.errors import DataError, PipelineError
from pipeline.records import Check, Record

FORMAT = 1
SHARD_ROWS = 10_000
WORK = "work"  # what an unfinished stage may reuse (checkpoints); removed when the version is sealed
Shard = Literal["kept", "heldout", "dropped"]
SHARDS: tuple[Shard, ...] = ("kept", "heldout", "dropped")


class ShardInfo(BaseModel):
    """One sealed file of a version, JSONL shard or not (`rows` is 0 then)."""

    file: str
    rows: int
    bytes: int
    sha256: str


class Tally(BaseModel):
    """One line of the ledger: `came == kept + sum(dropped.values())` for every step of a stage."""

    step: str
    came: int = 0
    kept: int = 0
    dropped: dict[str, int] = {}

    def count(self, check: Check) -> None:
        """One row more that came, and what became of it."""
        self.came += 1
        if check.passed:
            self.kept += 1
        else:
            self.dropped[check.reason] = self.dropped.get(check.reason, 0) + 1

    def add(self, more: "Tally") -> None:
        """Take another tally of the same step in."""
        self.came += more.came
        self.kept += more.kept
        for reason, rows in more.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + rows


class Input(BaseModel):
    """What a version was made from: a version of another stage, or a file."""

    stage: str
    version: str
    fingerprint: str


class Manifest(BaseModel):
    """What made a version and what is in it. Everything that depends on the clock is here only."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    stage: str
    version: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: list[Input]
    limit: int | None = None
    """`--limit`: only so many seeds or rows were taken"""
    shards: list[ShardInfo] = []
    files: list[ShardInfo] = []
    counts: dict[str, int] = {}
    ledger: list[Tally] = []
    usage: dict[str, float] = {}
    figures: dict[str, Any] = {}
    notes: list[str] = []
    environment: dict[str, Any] = {}
    started: str = ""
    finished: str = ""


class Version:
    """A sealed version. Opening it reads the manifest; reading rows checks every shard against it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.manifest = Manifest.model_validate_json((path / "manifest.json").read_bytes())
        except (ValidationError, FileNotFoundError) as error:
            raise DataError(f"{path} has no readable manifest.json", hint=REMAKE.format(path)) from error
        if self.manifest.format != FORMAT:
            raise DataError(f"{path} has format {self.manifest.format}; this release reads {FORMAT}")

    @property
    def name(self) -> str:
        """Ordinal and fingerprint: `0001-3fa9c1d2`."""
        return self.path.name

    def rows(self, shard: Shard) -> int:
        """How many rows the manifest counts."""
        return sum(s.rows for s in self.manifest.shards if s.file.startswith(f"{shard}-"))

    def read(self, shard: Shard = "kept") -> Iterator[Record]:
        """Rows in order. Raises DataError when a shard is not what the manifest says."""
        yield from map(Record.model_validate_json, self.lines(shard))

    def everything(self) -> Iterator[Record]:
        """All rows: kept ones, held-out ones, dropped ones."""
        return itertools.chain.from_iterable(map(self.read, SHARDS))

    def lines(self, shard: Shard = "kept") -> Iterator[bytes]:
        """The same, unparsed."""
        for info in self.manifest.shards:
            if info.file.startswith(f"{shard}-"):
                self.verify(info)
                with (self.path / info.file).open("rb") as file:
                    yield from file

    def verify(self, info: ShardInfo) -> None:
        """Compare one file with its manifest entry by size and sha256."""
        file = self.path / info.file
        if not file.is_file():
            raise DataError(f"{file} is missing", hint=REMAKE.format(self.path))
        if file.stat().st_size != info.bytes or file_digest(file) != info.sha256:
            raise DataError(f"{file} does not match its manifest", hint=REMAKE.format(self.path))


REMAKE = "delete the folder {} and run the stage again"


class ShardWriter:
    """Appends rows to numbered shards of fixed size; each is visible under its name only once complete."""

    def __init__(self, folder: Path, shard: Shard, rows: int = SHARD_ROWS) -> None:
        self.folder, self.shard, self.limit = folder, shard, rows
        self.sealed: list[ShardInfo] = []
        self._file: BinaryIO | None = None
        self._rows = 0
        self._sha = hashlib.sha256()

    def write(self, line: bytes) -> None:
        """Add one row."""
        if self._file is None:
            self._file = self._path(".tmp").open("wb")
            self._rows, self._sha = 0, hashlib.sha256()
        self._file.write(line)
        self._sha.update(line)
        self._rows += 1
        if self._rows == self.limit:
            self.seal()

    def seal(self) -> None:
        """Sync and name the open shard, if there is one."""
        if self._file is None:
            return
        size = self._file.tell()
        _sync_and_close(self._file)
        self._file = None
        final = self._path("")
        self._path(".tmp").rename(final)
        self.sealed.append(ShardInfo(file=final.name, rows=self._rows, bytes=size, sha256=self._sha.hexdigest()))

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.shard}-{len(self.sealed):05d}.jsonl{suffix}"


def shard_of(record: Record) -> Shard:
    """Where a row belongs."""
    return "dropped" if record.dropped else "heldout" if record.split == "heldout" else "kept"


class VersionWriter:
    """Fills a version folder. Nothing counts until `seal` has written the manifest."""

    def __init__(self, folder: Path, manifest: Manifest, shard_rows: int = SHARD_ROWS) -> None:
        self.path, self.manifest = folder, manifest
        self._shard_rows = shard_rows
        self._shards: dict[Shard, ShardWriter] = {}
        self.counts: Counter[str] = Counter()

    def begin(self) -> None:
        """Create the folder, or clear what a killed run left in it (all but `work/`)."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for leftover in self.path.iterdir():
                if leftover.name != WORK:
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        except OSError as error:
            raise PipelineError(f"cannot write to {self.path}: {error.strerror}") from error
        self._shards = {s: ShardWriter(self.path, s, self._shard_rows) for s in SHARDS}

    def discard(self) -> None:
        """Remove what a failed stage wrote, unless `work/` holds something to resume from."""
        if not any((self.path / WORK).glob("*")):
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def work(self) -> Path:
        """A folder that survives an interruption and is removed when the version is sealed."""
        folder = self.path / WORK
        folder.mkdir(exist_ok=True)
        return folder

    def write(self, record: Record) -> None:
        """Add a row to the shards where it belongs."""
        self.write_line(record.line(), shard_of(record))

    def write_line(self, line: bytes, shard: Shard) -> None:
        """Add a row that is written out already."""
        self._shards[shard].write(line)
        self.counts[shard] += 1

    def seal(self) -> Version:
        """Name the last shards, hash the other files and write the manifest: the version exists."""
        for writer in self._shards.values():
            writer.seal()
        shutil.rmtree(self.path / WORK, ignore_errors=True)
        shards = [s for w in self._shards.values() for s in w.sealed]
        named = {s.file for s in shards}
        files = [
            ShardInfo(file=p.relative_to(self.path).as_posix(), rows=0, bytes=p.stat().st_size, sha256=file_digest(p))
            for p in sorted(self.path.rglob("*"))
            if p.is_file() and p.name not in named
        ]
        rows = {s: self.counts[s] for s in SHARDS}
        self.manifest = self.manifest.model_copy(
            update={"shards": shards, "files": files, "counts": rows | self.manifest.counts}
        )
        write_atomic(self.path / "manifest.json", pretty(self.manifest.model_dump()))
        return Version(self.path)


def pretty(value: Any) -> bytes:
    """Indented JSON with a final newline."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, as they come."""
    with path.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file as a whole: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f"{path.name}.tmp")
    file = temporary.open("wb")
    file.write(content)
    _sync_and_close(file)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sync_and_close(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
