"""The files of a version against its manifest: every byte hashed, every row read, in one pass over each."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from pipeline.component import file_digest
from pipeline.records import Record
from pipeline.store import SHARDS, Shard, ShardInfo, Version, shard_of
from stages.verify_found import Findings, Ids, key, named, short

READ_BY_NAME = re.compile(r"^(kept|heldout|dropped|pairs|heldout_pairs|logprobs)-\d+\.(jsonl|safetensors)$")
"""Files that readers find by their names, whatever the manifest says."""


class Content:
    """What the rows of one version are; ids by eight bytes, everything else counted."""

    def __init__(self) -> None:
        self.all, self.passed, self.heldout = Ids(), Ids(), Ids()
        self.rows: Counter[Shard] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.whole: set[str] = set()
        """names of files that are what the manifest says"""
        self.readable = True
        """whether every row could be counted"""

    def add(self, record: Record) -> None:
        """One row."""
        self.all.add(record.id)
        if record.split == "heldout":
            self.heldout.add(record.id)
        if record.dropped:
            self.dropped[record.by, record.reason] += 1
        else:
            self.passed.add(record.id)


def files(version: Version) -> list[ShardInfo]:
    """Every file that the manifest names."""
    return [*version.manifest.shards, *version.manifest.files]


def read(version: Version, out: Findings, done: Callable[[], None]) -> Content:
    """Hash every file and read every row. `done` is called after each file."""
    content = Content()
    for info in files(version):
        shard = next((s for s in SHARDS if info.file.startswith(f"{s}-")), None)
        if not inside(info.file):
            out.of(version, "manifest.json", f"names a file outside its folder: {info.file!r}")
        elif not (version.path / info.file).is_file():
            content.readable = content.readable and info not in version.manifest.shards
            out.of(version, info.file, "is missing")
        elif info in version.manifest.shards and shard is not None:
            _shard(version, info, shard, content, out)
        elif (problem := differs(version.path / info.file, info)) != "":
            out.of(version, info.file, problem)
        else:
            content.whole.add(info.file)
        done()
    _strays(version, out)
    if twice := content.all.twice():
        _twice(version, twice, out)
    return content


def inside(name: str) -> bool:
    """Whether a name stays in its folder, as a manifest writes it."""
    path = PurePosixPath(name)
    plain = name.isprintable() and "\\" not in name and str(path) == name
    return plain and not path.is_absolute() and ".." not in path.parts and name not in ("", ".", "manifest.json")


def differs(file: Path, info: ShardInfo) -> str:
    """How a file differs from its entry; "" where it does not."""
    size = file.stat().st_size
    if size != info.bytes:
        return f"has {size:,} bytes, and its manifest says {info.bytes:,}"
    return "" if file_digest(file) == info.sha256 else "is not what was written: its sha256 differs"


def _shard(version: Version, info: ShardInfo, shard: Shard, content: Content, out: Findings) -> None:
    """One pass: digest, size, rows."""
    sha, size, rows = hashlib.sha256(), 0, 0
    wrong: defaultdict[str, list[int]] = defaultdict(list)
    for rows, line in enumerate(_lines(version.path / info.file), 1):
        sha.update(line)
        size += len(line)
        try:
            record = Record.model_validate_json(line)
        except ValidationError:
            wrong["no records"].append(rows)
            content.readable = False
            continue
        if (belongs := shard_of(record)) != shard:
            wrong[f"of another sort ({belongs}) than their file"].append(rows)
        content.rows[shard] += 1
        content.add(record)
    if size != info.bytes:
        out.of(version, info.file, f"has {size:,} bytes, and its manifest says {info.bytes:,}")
    elif sha.hexdigest() != info.sha256:
        out.of(version, info.file, "is not what was written: its sha256 differs")
    else:
        content.whole.add(info.file)
    if rows != info.rows:
        out.of(version, info.file, f"has {rows:,} rows, and its manifest says {info.rows:,}")
    for what, lines in wrong.items():
        out.of(version, info.file, f"{len(lines):,} rows are {what}: line {named(lines)}")


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield from opened


def _strays(version: Version, out: Findings) -> None:
    """Files that the manifest does not name."""
    known = {info.file for info in files(version)} | {"manifest.json"}
    for file in sorted(version.path.rglob("*")):
        name = file.relative_to(version.path).as_posix()
        if name in known or file.is_dir():
            continue
        if READ_BY_NAME.match(name):
            out.problem(
                f"{short(version)}/{name}",
                "is not in the manifest, and whoever reads files by name reads it, too",
                f"move it out of {version.path}",
            )
        else:
            out.note(f"{short(version)}/{name}", "is not in the manifest")


def _twice(version: Version, keys: set[int], out: Findings) -> None:
    """Name the rows that share an id: the shards are read once more."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for info in version.manifest.shards:
        file = version.path / info.file
        for number, line in enumerate(_lines(file) if file.is_file() else (), 1):
            try:
                record = Record.model_validate_json(line)
            except ValidationError:
                continue
            if key(record.id) in keys:
                places[record.id].append(f"{info.file}:{number}")
    shared = [f"{name} ({named(where)})" for name, where in places.items() if len(where) > 1]
    if shared:
        out.of(version, "*.jsonl", f"{len(shared):,} ids stand more than once: {named(shared)}")
