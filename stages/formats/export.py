"""dataset: the kept rows of a version in the format that another trainer reads, row by row."""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from pipeline.config import nearest
from pipeline.errors import PipelineError, UsageError
from pipeline.run import Run
from pipeline.store import Version
from stages.formats import FORMATS
from stages.formats.base import Format, Left, Line, Written

ROWS = ("curate", "filter", "generate")  # the stages that hold rows, the last first


class Exported(NamedTuple):
    """What was written: `left` counts the rows that were not, `lost` what written rows had to leave behind."""

    format: str
    version: str
    files: list[Path]
    rows: int
    left: dict[str, int]
    lost: dict[str, int]
    notes: list[str]


def format_of(name: str) -> Format:
    """A format by name. Raises UsageError that lists them."""
    if name not in FORMATS:
        raise UsageError(f"--format {name}: there are {', '.join(FORMATS)}{nearest(name, list(FORMATS))}")
    return FORMATS[name]


def rows_of(run: Run, stage: str = "", name: str = "") -> Version:
    """The version whose rows are wanted: the current one of the last stage that has one, where nothing is named.

    `name` is an ordinal or a version's name, with its stage before it or not. Raises UsageError.
    """
    before, _, name = name.rpartition("/")
    if stage and before and before != stage:
        raise UsageError(f"--input {before}/{name} is no version of {stage}")
    stage = stage or before
    if stage and stage not in ROWS:
        raise UsageError(f"{stage}: rows are made by {', '.join(reversed(ROWS))}")
    if name and not stage:
        stage = next((s for s in ROWS if run.current(s) is not None), "generate")
    if name:
        return run.pick(stage, name)
    found = next((v for s in ((stage,) if stage else ROWS) if (v := run.current(s)) is not None), None)
    if found is None:
        what = f"{stage} has not been run" if stage else "no stage has been run that makes rows"
        raise UsageError(what, hint=f"pipeline {stage or 'run'} PLAN")
    return found


def export(run: Run, version: Version, form: Format, to: Path) -> Exported:
    """Write a file, or a folder for a format that needs one. Raises UsageError where a file is there already."""
    file = _target(run, form, to)
    left: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".pipeline-dataset-") as folder:
            made = Path(folder) / file.name
            with made.open("wb") as sink:
                rows = _fill(sink, form.lines(run, version), left, lost)
            _refuse_empty(rows, left, version, form)
            finished = form.finish(made)
            written = Written(file, rows, finished.stat().st_size, run.path.name)
            files = [file, *form.beside(written)]  # first: it may refuse what lies there
            finished.replace(file)
    except OSError as error:
        raise PipelineError(f"cannot write {error.filename or file}: {error.strerror}") from error
    return Exported(form.name, _name(version), files, rows, dict(left), dict(lost), form.notes(written))


def stream(run: Run, version: Version, form: Format) -> Exported:
    """The same to stdout, for formats that are lines of JSON and nothing else. Raises UsageError."""
    if form.folder or form.suffix != ".jsonl":
        raise UsageError(f"--format {form.name} is no stream of lines: name a place with --to")
    left: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    rows = _fill(sys.stdout.buffer, form.lines(run, version), left, lost)
    return Exported(form.name, _name(version), [], rows, dict(left), dict(lost), [])


def _target(run: Run, form: Format, to: Path) -> Path:
    own = f"{run.path.name}{form.suffix}"
    if form.folder and to.is_file():
        raise UsageError(f"--to {to}: {form.name} writes several files and needs a folder")
    file = to / own if to.is_dir() or form.folder or not to.suffix else to
    if file.exists():
        raise UsageError(f"{file} is there already", hint="remove it, or name another place with --to")
    return file


def _fill(sink: BinaryIO, lines: Iterator[Line | Left], left: Counter[str], lost: Counter[str]) -> int:
    rows = 0
    for line in lines:
        if isinstance(line, Left):
            left[line.reason] += 1
            continue
        rows += 1
        lost.update(line.lost)
        sink.write(orjson.dumps(line.value, option=orjson.OPT_APPEND_NEWLINE))
    return rows


def _refuse_empty(rows: int, left: Counter[str], version: Version, form: Format) -> None:
    if not rows:
        why = ", ".join(f"{n:,} {reason}" for reason, n in left.most_common()) or "it holds no kept rows"
        raise UsageError(f"no row of {_name(version)} can be written as {form.name}: {why}")


def _name(version: Version) -> str:
    return f"{version.manifest.stage}/{version.name}"


def plain(done: Exported) -> dict[str, Any]:
    """As JSON."""
    return done._asdict() | {"files": [str(file) for file in done.files]}
