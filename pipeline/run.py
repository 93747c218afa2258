"""A run folder: the versions of every stage, which of them is current, and the right to write.

`lock.json` names the current version of each stage; `writer.lock` is held by the one process that
writes. Versions are found by looking at the disk, so a deleted folder is simply gone.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from pipeline.errors import BusyError, DataError, PipelineError, UsageError
from pipeline.store import Version, pretty, write_atomic

NAME = re.compile(r"^(\d{4,})-([0-9a-f]{8})$")


def runs_home() -> Path:
    """`$PIPELINE_RUNS`, else `data/runs` in the current folder."""
    return Path(os.environ.get("PIPELINE_RUNS", "data/runs"))


class Run:
    """The folder of one plan's versions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def memo(self) -> Path:
        """Where completions are remembered."""
        return self.path / "memo.sqlite"

    @property
    def logs(self) -> Path:
        """Where libraries' log lines go."""
        return self.path / "logs"

    def create(self) -> None:
        """Make the folders. Raises PipelineError where that is not allowed."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(f"cannot write to {self.path}: {error.strerror}") from error

    def folders(self, stage: str) -> list[Path]:
        """Version folders of a stage, sealed or not, oldest first."""
        if not (self.path / stage).is_dir():
            return []
        found = [p for p in (self.path / stage).iterdir() if NAME.match(p.name)]
        return sorted(found, key=lambda p: int(p.name.split("-")[0]))

    def versions(self, stage: str) -> list[Version]:
        """Sealed versions of a stage, oldest first."""
        return [Version(p) for p in self.folders(stage) if (p / "manifest.json").is_file()]

    def with_fingerprint(self, stage: str, fingerprint: str) -> Version | None:
        """The newest sealed version made from exactly these settings and inputs."""
        made = [v for v in self.versions(stage) if v.manifest.fingerprint == fingerprint]
        return made[-1] if made else None

    def folder_for(self, stage: str, fingerprint: str) -> Path:
        """Where a new version goes: an unfinished folder of the same fingerprint, or the next ordinal."""
        folders = self.folders(stage)
        for folder in folders:
            if folder.name.endswith(fingerprint[:8]) and not (folder / "manifest.json").is_file():
                return folder
        last = int(folders[-1].name.split("-")[0]) if folders else 0
        return self.path / stage / f"{last + 1:04d}-{fingerprint[:8]}"

    def current(self, stage: str) -> Version | None:
        """The version `lock.json` points at; None where there is none or its folder is gone."""
        name = self._pointers().get(stage)
        folder = self.path / stage / name if name else None
        return Version(folder) if folder and (folder / "manifest.json").is_file() else None

    def set_current(self, version: Version) -> None:
        """Point the stage at a version."""
        pointers = self._pointers() | {version.manifest.stage: version.name}
        write_atomic(self.path / "lock.json", pretty({"format": 1, "current": dict(sorted(pointers.items()))}))

    def pick(self, stage: str, name: str) -> Version:
        """A version by name or ordinal: `0002-1b5c2a77`, `0002` or `2`. Raises UsageError."""
        sealed = self.versions(stage)
        for version in sealed:
            if name == version.name or (name.isdigit() and int(name) == int(version.name.split("-")[0])):
                return version
        names = ", ".join(v.name for v in sealed) or "none yet"
        raise UsageError(f"{stage} has no version {name}; there are: {names}")

    def behind(self, version: Version, stage: str) -> Version | None:
        """The version of `stage` that `version` was made from, however many stages lie between; itself included."""
        if version.manifest.stage == stage:
            return version
        for source in version.manifest.inputs:
            made = self.with_fingerprint(source.stage, source.fingerprint)
            if made is not None and (found := self.behind(made, stage)) is not None:
                return found
        return None

    def _pointers(self) -> dict[str, str]:
        file = self.path / "lock.json"
        if not file.is_file():
            return {}
        try:
            found: dict[str, str] = orjson.loads(file.read_bytes())["current"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{file} is not readable", hint="delete it and run again; no version is lost") from error
        return found

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the run for writing. Raises BusyError that names the process which holds it."""
        self.create()
        holder = self.path / "writer.pid"
        lock = FileLock(self.path / "writer.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            pid = holder.read_text().strip() if holder.is_file() else "unknown"
            raise BusyError(
                f"{self.path} is being written by process {pid}", hint="wait for it, or give the plan another name"
            ) from error
        except OSError as error:
            raise PipelineError(f"cannot write to {self.path}: {error.strerror}") from error
        try:
            holder.write_text(f"{os.getpid()}\n")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()
