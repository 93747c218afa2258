"""verify: is everything in a run as it was written? Every byte hashed, every row read, every sum added up again.

Looks at the current versions and what they were made from, or at all. Writes nothing. What no digest covers is not
seen: words in a manifest that nothing follows from (`notes`, `usage`, `environment`), and other words in the memo.
"""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import orjson

from pipeline import console
from pipeline.engines import Completion
from pipeline.errors import DataError, UsageError
from pipeline.memo import DAMAGED, SCHEME
from pipeline.run import Run
from pipeline.store import Input, Version
from stages import verify_ledger
from stages.plan import VERSIONED
from stages.verify_beside import beside, trained
from stages.verify_found import Finding, Findings, short
from stages.verify_rows import Content, files, read


class Verified(NamedTuple):
    """What was looked at, and what was found."""

    run: Path
    versions: list[str]
    files: int
    rows: int
    completions: int | None
    """in the memo; None where there is none, or none that can be read"""
    findings: list[Finding]

    @property
    def problems(self) -> list[Finding]:
        """What has to be mended."""
        return [finding for finding in self.findings if finding.sort == "problem"]

    def refuse(self) -> None:
        """Raise DataError where something is wrong."""
        if problems := self.problems:
            more = f", and {len(problems) - 1:,} more" if len(problems) > 1 else ""
            first = f"{problems[0].where}: {problems[0].what}"
            raise DataError(f"{self.run} is not whole: {first}{more}", hint=problems[0].todo)


class Shelf:
    """The versions of a run as they lie on disk. Those without a readable manifest are told and left out."""

    def __init__(self, run: Run, out: Findings) -> None:
        self.run = run
        self.versions: dict[str, Version] = {}
        """by `stage/name`, oldest first"""
        for folder in (folder for stage in VERSIONED for folder in run.folders(stage)):
            where = f"{folder.parent.name}/{folder.name}"
            if not (folder / "manifest.json").is_file():
                todo = f"run {folder.parent.name} again to finish it, or delete {folder}"
                out.note(where, "was begun and is not finished", todo)
                continue
            try:
                self.versions[where] = Version(folder)
            except DataError as error:
                out.problem(f"{where}/manifest.json", error.args[0], error.hint or f"delete {folder}")

    def current(self, out: Findings) -> list[Version] | None:
        """The versions that `lock.json` names; None where it names none."""
        file = self.run.path / "lock.json"
        if not file.is_file():
            if self.versions:
                out.note("lock.json", "is not there, so no version is current", "run the plan again: it makes it anew")
            return None
        try:
            pointers = dict(orjson.loads(file.read_bytes())["current"])
            names = [f"{stage}/{name}" for stage, name in pointers.items()]
        except (ValueError, KeyError, TypeError):
            out.problem("lock.json", "is not readable", f"delete {file} and run again; no version is lost")
            return None
        for name in names:
            if name not in self.versions:
                todo = f"run {name.partition('/')[0]} again"
                out.problem("lock.json", f"names {name}, which is not here whole", todo)
        return [self.versions[name] for name in names if name in self.versions]

    def giver(self, source: Input) -> Version | None:
        """The version that an input names, or another one made from the same."""
        same = [v for v in self.versions.values() if v.manifest.stage == source.stage
                and v.manifest.fingerprint == source.fingerprint]  # fmt: skip
        return next((v for v in same if v.name == source.version), same[-1] if same else None)

    def lineage(self, of: Iterable[Version]) -> dict[str, Version]:
        """Versions with all that they were made from, as far as it is here, by `stage/name` in the order of stages."""
        found: set[str] = set()
        waiting = list(of)
        while waiting:
            version = waiting.pop()
            if short(version) not in found:
                found.add(short(version))
                waiting += [g for source in version.manifest.inputs if (g := self.giver(source)) is not None]
        return {name: version for name, version in self.versions.items() if name in found}


def examine(run: Run, *, everything: bool = False) -> Verified:
    """Look at the current versions with what they were made from, or at all. Raises UsageError without a run."""
    if not run.path.is_dir():
        raise UsageError(f"{run.path} is not there: nothing has been run yet", hint="pipeline run PLAN")
    out = Findings()
    shelf = Shelf(run, out)
    current = shelf.current(out)
    chosen = shelf.versions if everything or current is None else shelf.lineage(current)
    completions = _memo(run, out)
    contents: dict[str, Content] = {}
    total = sum(len(files(version)) for version in chosen.values())
    with console.Bar("files verified", total) as bar:
        for name, version in chosen.items():
            verify_ledger.named(version, out)
            contents[name] = read(version, out, bar.advance)
            verify_ledger.counted(version, contents[name], out)
            beside(version, contents[name], out)
            _lineage(shelf, version, contents, out)
    for name, version in chosen.items():
        trained(version, contents[name], _held_out(shelf, version, chosen, contents), out)
    rows = sum(content.rows.total() for content in contents.values())
    return Verified(run.path, list(chosen), total, rows, completions, out.found)


def _lineage(shelf: Shelf, version: Version, contents: dict[str, Content], out: Findings) -> None:
    for source in version.manifest.inputs:
        giver = shelf.giver(source)
        verify_ledger.made_from(version, source, giver, out)
        if giver is not None and short(giver) in contents and source == version.manifest.inputs[0]:
            verify_ledger.taken_over(version, contents[short(version)], giver, contents[short(giver)], out)


def _held_out(
    shelf: Shelf, version: Version, chosen: dict[str, Version], contents: dict[str, Content]
) -> dict[str, Content]:
    """The versions whose held-out rows `version` must not train on: its own lineage, and what it is evaluated on."""
    if version.manifest.stage != "train":
        return {}
    judges = [v for v in chosen.values() if v.manifest.stage == "evaluate" and short(version) in shelf.lineage([v])]
    return {name: contents[name] for name in shelf.lineage([version, *judges]) if len(contents[name].heldout)}


def _memo(run: Run, out: Findings) -> int | None:
    """How many completions can be read."""
    if not run.memo.is_file():
        out.note(run.memo.name, "is not there: what has been asked would be asked again")
        return None
    try:
        with closing(opened(run.memo)) as db:
            said = [str(row[0]) for row in db.execute("pragma quick_check")]
            if said != ["ok"]:
                raise ValueError("; ".join(said[:3]))
            ((scheme,),) = db.execute("select version from scheme").fetchall()
            if scheme != SCHEME:
                raise ValueError(f"it has scheme {scheme}, and this release reads {SCHEME}")
            rows = 0
            for engine, answer in db.execute("select engine, answer from completion"):
                orjson.loads(engine)
                Completion.model_validate_json(answer)
                rows += 1
            return rows
    except (sqlite3.Error, ValueError) as error:
        out.problem(run.memo.name, f"cannot be read: {error}", DAMAGED)
        return None


def opened(memo: Path) -> sqlite3.Connection:
    """A memo to read from; also where nothing may be written, as on another's disk."""
    mode = "mode=rw" if os.access(memo.parent, os.W_OK) and os.access(memo, os.W_OK) else "immutable=1"
    return sqlite3.connect(f"{memo.resolve().as_uri()}?{mode}", uri=True, timeout=30)
