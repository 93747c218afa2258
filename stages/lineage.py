"""Where a record is: versions that follow from one another, and the lines in them that carry its id."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline.errors import DataError, UsageError
from pipeline.records import Record
from pipeline.run import Run
from pipeline.store import SHARDS, Shard, Version
from stages.plan import STAGES

LISTED = 5  # ids that an ambiguous beginning lists
ALIKE = 75.0  # of 100: how like two ids are where one is offered for the other


class Hit(NamedTuple):
    """A record as one version holds it."""

    shard: Shard
    record: Record


class Located(NamedTuple):
    """A record, by the stages whose versions hold it."""

    id: str
    hits: dict[str, Hit]


def pick(run: Run, text: str, stage: str = "") -> Version:
    """A version by `filter/0002`, by its folder, or by ordinal or name where `stage` is known. Raises UsageError."""
    if (Path(text) / "manifest.json").is_file():
        return Version(Path(text))
    named, _, name = text.strip("/").rpartition("/")
    if not (named or stage):
        raise UsageError(f"{text}: of which stage?", hint="say filter/0002, or name the version's folder")
    named = named or stage
    if named not in STAGES:
        raise UsageError(f"{text}: {named!r} is no stage; there are {', '.join(STAGES)}")
    return run.pick(named, name)


def chain(run: Run, of: Version | None) -> dict[str, Version]:
    """The current versions; or what `of` was made from, itself, and the newest that were made from it."""
    if of is None:
        return {stage: version for stage in STAGES if (version := run.current(stage)) is not None}
    found = {}
    for stage in STAGES:
        if (made := run.behind(of, stage) or _after(run, of, stage)) is not None:
            found[stage] = made
    return found


def _after(run: Run, of: Version, stage: str) -> Version | None:
    """The current version of a stage where it follows from `of`, else the newest that does."""
    current = run.current(stage)
    for version in [*([current] if current else []), *reversed(run.versions(stage))]:
        before = run.behind(version, of.manifest.stage)
        if before is not None and before.manifest.fingerprint == of.manifest.fingerprint:
            return version
    return None


def locate(versions: dict[str, Version], wanted: str) -> Located:
    """The one record whose id is or begins with `wanted`. Raises UsageError where there is none, or several."""
    start = b'{"id":' + orjson.dumps(wanted)[:-1]
    found: dict[str, dict[str, Hit]] = {}
    for stage, version in versions.items():
        for shard in SHARDS:
            for line in version.lines(shard):
                if line.startswith(start):
                    name = orjson.loads(line)["id"]
                    if name == wanted or name in found or len(found) <= LISTED:
                        found.setdefault(name, {}).setdefault(stage, Hit(shard, record_in(version, line)))
    if wanted in found or len(found) == 1:
        one = wanted if wanted in found else next(iter(found))
        return Located(one, found[one])
    if found:
        more = ", ..." if len(found) > LISTED else ""
        names = ", ".join(sorted(found)[:LISTED])
        raise UsageError(f"{wanted!r} begins several ids: {names}{more}", hint="give more of it")
    raise UsageError(f"no record of these versions has the id {wanted!r}{_nearest(versions, wanted)}", hint=HOW)


def _nearest(versions: dict[str, Version], wanted: str) -> str:
    """The id that begins most like `wanted`; or what grew from it, where it is a seed."""
    from rapidfuzz.process import extractOne

    def names() -> Iterator[str]:
        return (name for version in versions.values() for name in ids(version))

    if best := extractOne(wanted, (name[: len(wanted)] for name in names()), score_cutoff=ALIKE):
        return f"; did you mean {next(islice(names(), best[2], None))}?"
    grown = next((r.id for v in versions.values() for r in v.everything() if wanted in r.seeds), "")
    return f"; it is a seed, and {grown} grew from it" if grown else ""


HOW = (
    "`pipeline show PLAN STAGE --columns id,answer` lists ids, those of --dropped and --heldout rows too; "
    "`--input filter/0001` looks in an older version"
)


def ids(version: Version) -> Iterator[str]:
    """The id of every row."""
    return (orjson.loads(line)["id"] for shard in SHARDS for line in version.lines(shard))


def rows_of(version: Version, wanted: Iterable[str]) -> dict[str, Record]:
    """Rows by their ids; those that are not there are left out."""
    starts = tuple(b'{"id":' + orjson.dumps(name) + b"," for name in set(wanted))
    if not starts:
        return {}
    lines = (line for shard in SHARDS for line in version.lines(shard) if line.startswith(starts))
    return {record.id: record for record in (record_in(version, line) for line in lines)}


def record_in(version: Version, line: bytes) -> Record:
    """A line of a version as a record. Raises DataError where it is none."""
    try:
        return Record.model_validate_json(line)
    except ValueError as error:
        raise DataError(f"{version.path} holds a row that is no record: {line[:80]!r}") from error


def beside(version: Version, file: str, key: str, wanted: str) -> Iterator[dict[str, Any]]:
    """Rows of another JSONL file of a version (`rows.jsonl`, `samples.jsonl`) whose `key` is `wanted`.

    Raises DataError where the file is not what the manifest says.
    """
    info = next((info for info in version.manifest.files if info.file == file), None)
    if info is None:
        return
    version.verify(info)
    mark = orjson.dumps(wanted)
    with (version.path / file).open("rb") as lines:
        for line in lines:
            if mark in line and (row := orjson.loads(line)).get(key) == wanted:
                yield row
