"""unbundle: a bundle back on disk, checked to the byte before anything of it counts.

Whoever sends a file may have made it by hand. So nothing is unpacked but plain files that the first member announces,
in its order, of its sizes and digests, under names that stay in their folder; all of it into folders that nobody sees
until everything has come and the run has been verified.
"""

import gzip
import hashlib
import shutil
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol, cast

import yaml
from pydantic import ValidationError

from pipeline import console
from pipeline.config import Loader
from pipeline.errors import DataError, ModelError, PipelineError, UsageError
from pipeline.models import cached, find
from pipeline.run import Run, runs_home
from stages import bundle_plan, flow, verify
from stages.bundle import BESIDE, CONTENTS, FORMAT, RUN, Contents, Member, Needed
from stages.bundle_plan import PLAN
from stages.plan import load
from stages.verify_found import plain
from stages.verify_rows import inside

BLOCK = 1 << 20  # bytes read at once
HEADER = 8 << 10  # bytes of a member's headers and padding, at most
LONGEST = 64 << 20  # bytes of the list of contents
COPY = "copy it once more from where it was made"
GZIP = b"\x1f\x8b"
UNREADABLE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, struct.error, ValueError, OverflowError)


class Unpacked(NamedTuple):
    """A bundle that was unpacked."""

    plan: Path
    run: Path
    contents: Contents
    verified: verify.Verified
    states: list[tuple[str, str]]
    """each stage and `up to date`, or why it is not; empty where that cannot be said yet"""
    models: list[str]
    """what the plan needs and this machine has not"""
    warnings: list[str]


def unpack(file: Path, folder: Path) -> Unpacked:
    """Unpack into `folder` and the runs' home. Raises UsageError, and DataError where the bundle is not whole."""
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    with _opened(file) as archive:
        contents = _contents(archive)
        folder, run = folder.resolve(), (runs_home() / contents.plan).resolve()
        _refuse_places(folder, run)
        _room(contents, folder, run)
        console.say(f"{file}: {len(contents.members):,} files, {contents.bytes / 2**20:,.1f} MiB unpacked")
        with _hidden(folder) as plan_folder, _hidden(run) as run_folder:
            _extract(archive, contents, {BESIDE: plan_folder, RUN: run_folder})
            _same_run(plan_folder / PLAN, contents, file)
            verified = verify.examine(Run(run_folder))
            if problems := verified.problems:
                what = f"{problems[0].where}: {problems[0].what}"
                hint = "`pipeline verify PLAN` where it was made, and bundle it again"
                raise DataError(f"the run in {file} is not whole: {what}", hint=hint)
            run_folder.rename(run)
            try:
                plan_folder.rename(folder)
            except OSError:
                run.rename(run_folder)  # all or nothing
                raise
    done = Unpacked(folder / PLAN, run, contents, verified._replace(run=run), [], [], [])
    return _looked_at(done)


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """At most so many."""
        ...


class _Forward:
    """The archive's bytes from first to last, never more than `limit` of them, and never much at once.

    Headers that somebody made long, or without end, cost no memory; and nothing is unpacked twice to go back a byte.
    """

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._at, self._last, self._back = 0, b"", False
        self.limit = LONGEST + BLOCK

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at - self._back

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if size > BLOCK or self.tell() + size > self.limit:
            raise tarfile.HeaderError("it is larger than it announces")
        again, self._back = self._last if self._back and size else b"", self._back and not size
        fresh = self._file.read(size - len(again))
        self._at += len(fresh)
        self._last = (again + fresh)[-1:] or self._last
        return again + fresh

    def seek(self, place: int) -> int:
        """Go forward, or back by one byte, which is all that tarfile asks for."""
        if place == self.tell() - 1 and not self._back and self._last:
            self._back = True
        while place > self.tell() and self.read(min(BLOCK, place - self.tell())):
            pass
        if place != self.tell():
            raise tarfile.ReadError("it ends too early")
        return place


class _Archive(NamedTuple):
    """An archive, and what it is read through."""

    tar: tarfile.TarFile
    source: _Forward
    file: Path

    def next(self) -> tarfile.TarInfo | None:
        """The next member. Raises DataError."""
        with _reading(self.file):
            return self.tar.next()

    def content(self, info: tarfile.TarInfo) -> Iterator[bytes]:
        """A member's bytes in blocks. Raises DataError."""
        with _reading(self.file):
            opened = self.tar.extractfile(info)
        while opened is not None:
            with _reading(self.file):
                block = opened.read(BLOCK)
            if not block:
                return
            yield block


@contextmanager
def _opened(file: Path) -> Iterator[_Archive]:
    with file.open("rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        reading = _Forward(gzip.GzipFile(fileobj=raw) if packed else raw)
        with _reading(file):
            archive = tarfile.open(fileobj=cast(BinaryIO, reading), mode="r:")  # noqa: SIM115 - only reads
        yield _Archive(archive, reading, file)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except PipelineError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{file} is no bundle, or damaged: {error or type(error).__name__}", hint=COPY) from error


def _contents(archive: _Archive) -> Contents:
    """The first member. Raises DataError for one that nothing may be unpacked by."""
    first, file = archive.next(), archive.file
    if first is None or first.name != CONTENTS or not _ordinary(first) or first.size > LONGEST:
        raise DataError(f"{file} is no bundle: it does not begin with {CONTENTS}", hint=COPY)
    try:
        contents = Contents.model_validate_json(b"".join(archive.content(first)))
    except ValidationError as error:
        raise DataError(f"{file} is no bundle, or damaged: {CONTENTS} cannot be read", hint=COPY) from error
    if contents.format != FORMAT:
        raise DataError(f"{file} has format {contents.format}; this release reads {FORMAT}")
    paths = [member.path for member in contents.members]
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    for path in paths:
        if not inside(path) or not path.startswith((f"{BESIDE}/", f"{RUN}/")) or path in folders:
            raise DataError(f"{file} holds {path!r}, which no bundle holds: nothing is unpacked")
    if len(set(paths)) != len(paths) or f"{BESIDE}/{PLAN}" not in paths:
        raise DataError(f"{file} holds a file twice, or no plan: nothing is unpacked")
    archive.source.limit = archive.source.tell() + contents.bytes + HEADER * (len(paths) + 1) + BLOCK
    return contents


def _ordinary(info: tarfile.TarInfo) -> bool:
    """A plain file: no link, no device, no folder, no holes."""
    return info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse()


def _extract(archive: _Archive, contents: Contents, folders: dict[str, Path]) -> None:
    """Every member in turn. Raises DataError at the first that is not what was announced."""
    with console.Bar("files unpacked", len(contents.members)) as bar:
        for member in contents.members:
            info = archive.next()
            if info is None:
                raise DataError(f"{archive.file} ends before {member.path}", hint=COPY)
            if (info.name, info.size) != (member.path, member.bytes) or not _ordinary(info):
                raise DataError(f"{archive.file} holds {info.name!r} in the place of {member.path}", hint=COPY)
            top, _, name = member.path.partition("/")
            _write(archive, info, member, folders[top] / name)
            bar.advance()
    if archive.next() is not None:
        raise DataError(f"{archive.file} holds more than it announces", hint=COPY)


def _write(archive: _Archive, info: tarfile.TarInfo, member: Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    sha = hashlib.sha256()
    with target.open("xb") as file:
        for block in archive.content(info):
            sha.update(block)
            file.write(block)
    if sha.hexdigest() != member.sha256 or target.stat().st_size != member.bytes:
        raise DataError(f"{archive.file}: {member.path} is not what was put in: its sha256 differs", hint=COPY)


@contextmanager
def _hidden(target: Path) -> Iterator[Path]:
    """A folder beside `target` to fill and then to rename; what is left of it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as hidden:
        folder = Path(hidden) / target.name
        folder.mkdir()
        yield folder


def _refuse_places(folder: Path, run: Path) -> None:
    if folder == run or folder in run.parents or run in folder.parents:
        raise UsageError(f"--to {folder}: the run itself comes to {run}", hint="name another folder for the plan")
    for place, hint in (
        (folder, "name a new folder with --to"),
        (run, "PIPELINE_RUNS=FOLDER puts runs elsewhere; set it for the commands after this one, too"),
    ):
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UsageError(f"{place} is there already: nothing is overwritten", hint=hint)


def _room(contents: Contents, *places: Path) -> None:
    for place in places:
        there = next(parent for parent in place.parents if parent.is_dir())
        if (free := shutil.disk_usage(there).free) < contents.bytes:
            need, have = contents.bytes / 2**20, free / 2**20
            raise UsageError(f"{there} has {have:,.0f} MiB free, and the bundle takes {need:,.0f}")


def _same_run(plan: Path, contents: Contents, file: Path) -> None:
    """The plan looks for its run where it is going to be. Raises DataError."""
    try:
        named = yaml.load(plan.read_bytes(), Loader)["name"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: the plan in it has no name that can be read", hint=COPY) from error
    if named != contents.plan:
        raise DataError(f"{file} holds the run {contents.plan!r}, and its plan is called {named!r}", hint=COPY)


def _looked_at(done: Unpacked) -> Unpacked:
    """What can be said of the plan on this machine."""
    models = [said for needed in done.contents.models if (said := _missing(needed))]
    states, warnings = [], []
    try:
        plan = load(done.plan)
        if functions := bundle_plan.code(plan):
            warnings.append(f"the plan runs Python of its own; read it before you run it: {', '.join(functions)}")
        steps = flow.status(plan, Run(done.run))
        states = [(s.stage, "up to date" if s.state == "done" else f"{s.state}: {s.why}") for s in steps]
    except ModelError:  # `models` names it
        warnings.append("what is up to date can be said once the models are here")
    except PipelineError as error:
        warnings.append(f"the plan cannot be read here: {error}")
    return done._replace(states=states, models=models, warnings=[plain(text) for text in warnings])


def _missing(needed: Needed) -> str:
    """What is to be said of a model; nothing where it is here as it was there."""
    try:
        found = find(needed.model, needed.asked)
    except ModelError as error:
        return plain(str(error))
    if not found.local and cached(needed.model, needed.asked) is None:
        return plain(f"{needed.model} is not on this machine; it was revision {needed.revision or 'unknown'}")
    if needed.revision and found.revision != needed.revision:
        return plain(f"{needed.model} is {found.revision} here, and was {needed.revision}: stages that use it differ")
    return ""
