"""bundle: a plan, its files and its run as one archive that another machine checks and goes on with.

A tar file, plain or in gzip: `bundle.json` first (what is in it, with the sha256 of every file), then `plan/` and
`run/` in the order of their names. Nothing in it depends on the clock or on who wrote it: the same content gives the
same bytes. Models stay behind; `bundle.json` names them.
"""

import gzip
import hashlib
import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pipeline import __version__, console
from pipeline.component import file_digest
from pipeline.errors import DataError, ModelError, PipelineError, UsageError
from pipeline.memo import DAMAGED
from pipeline.models import find
from pipeline.run import Run
from pipeline.store import Version, pretty
from stages import verify
from stages.bundle_plan import CARRIED, PLAN, carried
from stages.plan import Plan, load
from stages.verify_found import Findings
from stages.verify_rows import files

FORMAT = 1
CONTENTS, BESIDE, RUN = "bundle.json", "plan", "run"  # the first member, and the two folders
SUFFIXES = (".tar", ".tar.gz", ".tgz")


class Member(BaseModel):
    """One file of a bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    bytes: int
    sha256: str


class Needed(BaseModel):
    """A model that the plan names, and what it was where the bundle was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    asked: str
    """the revision in the plan; "" where it says none"""
    revision: str
    """"" where the model was not there"""


class Contents(BaseModel):
    """What is in a bundle: its first member."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    pipeline: str
    plan: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")]
    members: list[Member]
    models: list[Needed] = []
    notes: list[str] = []

    @property
    def bytes(self) -> int:
        """What the members take when they are unpacked."""
        return sum(member.bytes for member in self.members)


class Packed(NamedTuple):
    """A bundle that was written."""

    file: Path
    bytes: int
    sha256: str
    versions: list[str]
    contents: Contents


def pack(path: Path, run: Run, target: Path, *, memo: bool = True) -> Packed:
    """Check the run and write the bundle. Raises UsageError, and DataError where the run is not whole."""
    _refuse_place(target)
    plan = load(path)
    verified = verify.examine(run)
    verified.refuse()
    if not verified.versions:
        raise UsageError(f"{run.path} has no version to take along", hint=f"pipeline run {path}")
    went = carried(path, plan)
    notes = list(went.notes)
    sources: dict[str, Path | bytes] = {f"{BESIDE}/{PLAN}": went.text.encode()}
    sources |= {f"{BESIDE}/{name}": file for name, file in went.files.items()}
    sources |= _run_files(run, notes)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as scratch:
        if memo and run.memo.is_file():
            sources[f"{RUN}/{run.memo.name}"] = _memo(run.memo, Path(scratch))
        elif not memo:
            notes.append("the memo stayed behind: whatever is generated or judged anew is asked again")
        members = [_member(name, sources[name]) for name in sorted(sources)]
        contents = Contents(pipeline=__version__, plan=plan.name, members=members, models=_models(plan), notes=notes)
        with _complete(target) as temporary:
            _write(temporary, target.name, contents, sources)
    return Packed(target, target.stat().st_size, file_digest(target), verified.versions, contents)


def _refuse_place(target: Path) -> None:
    if not target.name.endswith(SUFFIXES) or target.name in SUFFIXES:
        raise UsageError(f"--to {target}: the file's name has to end in .tar.gz or .tar")
    if target.exists():
        raise UsageError(f"{target} is there already", hint="name another file, or delete it")
    if not target.parent.is_dir():
        raise UsageError(f"--to {target}: there is no folder {target.parent}")


def _run_files(run: Run, notes: list[str]) -> dict[str, Path | bytes]:
    """The current versions with what they were made from, the pointers, and the files they were made from, if here."""
    shelf = verify.Shelf(run, Findings())
    versions = shelf.lineage(shelf.current(Findings()) or shelf.versions.values())
    lock = run.path / "lock.json"
    found: dict[str, Path | bytes] = {f"{RUN}/{lock.name}": lock} if lock.is_file() else {}
    for name, version in versions.items():
        for file in ("manifest.json", *(info.file for info in files(version))):
            found[f"{RUN}/{name}/{file}"] = version.path / file
        found |= _given(version, notes)
    if older := sorted(shelf.versions.keys() - versions.keys()):
        notes.append(f"older versions stayed behind: {', '.join(older)}")
    return found


def _given(version: Version, notes: list[str]) -> Iterator[tuple[str, Path | bytes]]:
    """Files that a version was made from in place of another version."""
    for source in version.manifest.inputs:
        file = Path(source.version)
        if source.stage == "file" and file.is_file() and file_digest(file) == source.fingerprint:
            name = f"{CARRIED}/{source.fingerprint[:8]}/{file.name}"
            notes.append(f"{version.manifest.stage} was made from a file, which is now {name}: --input takes it")
            yield f"{BESIDE}/{name}", file


def _memo(memo: Path, scratch: Path) -> Path:
    """A copy whose bytes hang on its rows alone; the memo may be in use meanwhile."""
    copy = scratch / memo.name
    try:
        with closing(verify.opened(memo)) as db:
            db.execute("vacuum into ?", (str(copy),))
        with closing(sqlite3.connect(copy)) as db:
            db.execute("pragma schema_version = 1")  # else it counts how often the memo was copied
    except sqlite3.Error as error:
        raise DataError(f"the memo {memo} cannot be read: {error}", hint=DAMAGED) from error
    return copy


def _member(name: str, source: Path | bytes) -> Member:
    if isinstance(source, bytes):
        return Member(path=name, bytes=len(source), sha256=hashlib.sha256(source).hexdigest())
    return Member(path=name, bytes=source.stat().st_size, sha256=file_digest(source))


def _models(plan: Plan) -> list[Needed]:
    found = []
    for name, asked in sorted({m for stage in plan.stages().values() for m in stage.models(plan.teacher)}):
        try:
            revision = find(name, asked).revision
        except ModelError:
            revision = ""
        found.append(Needed(model=name, asked=asked, revision=revision))
    return found


@contextmanager
def _complete(target: Path) -> Iterator[Path]:
    """A file to write to that gets its name once it is whole and on disk; removed where that fails."""
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def _write(temporary: Path, name: str, contents: Contents, sources: dict[str, Path | bytes]) -> None:
    """The archive. Raises PipelineError where a file changes while it is read."""
    with temporary.open("wb") as raw, console.Bar("files bundled", len(contents.members)) as bar:
        packing = gzip.GzipFile("", "wb", 6, raw, mtime=0) if name.endswith("gz") else None
        with tarfile.open(fileobj=packing or raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
            head = pretty(contents.model_dump())
            _add(archive, _member(CONTENTS, head), head)
            for member in contents.members:
                _add(archive, member, sources[member.path])
                bar.advance()
        if packing is not None:
            packing.close()


class _Hashing:
    """A file that is digested as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        block = self._file.read(size)
        self.sha.update(block)
        return block


def _add(archive: tarfile.TarFile, member: Member, source: Path | bytes) -> None:
    info = tarfile.TarInfo(member.path)  # time, owner and rights are the same for all
    info.size = member.bytes
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        reading = _Hashing(file)
        archive.addfile(info, reading)
        if reading.sha.hexdigest() != member.sha256 or file.read(1):
            raise PipelineError(f"{member.path} was changed while the bundle was written", hint="run the command again")
