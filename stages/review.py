"""review: a sample of a filter version for a person to mark, and what the marks say of the filters.

A third of the sample are rows that were kept, a third dropped ones (every reason alike), a third lie near a threshold;
what one third lacks the others give. The file does not say which row is which: that stands in the run's folder
`review/`, so that nobody marks what the filters think. The draw follows from the plan's seed.
"""

import csv
import heapq
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from filters.judge import Judge
from filters.verdicts import UNMEASURED, asked_in
from pipeline.errors import UsageError
from pipeline.records import Record, digest
from pipeline.run import Run
from pipeline.store import Version, pretty, write_atomic
from stages.agreement import Figure, share
from stages.filter import FilterStage
from stages.gold import Mark, cell, read, read_csv
from stages.sources.jsonl import read_rows

COLUMNS = ("id", "sample", "prompt", "answer", "keep", "score", "note")
SUFFIXES = (".csv", ".jsonl")


class Picked(NamedTuple):
    """A row of the sample and what it stands for: `kept`, `dropped: by: reason` or `near: rule.setting: kept`."""

    record: Record
    stratum: str


class Agreed(NamedTuple):
    """The marks of one stratum: how many rows people would keep."""

    stratum: str
    rows: int
    marked: int
    keep: Figure


class Read(NamedTuple):
    """What was read: agreement by stratum, the share of all marks that agree, and the gold that was written."""

    strata: list[Agreed]
    marked: int
    unmarked: int
    agree: float
    gold: Path


class Shortlist:
    """The `n` rows with the smallest keys, whatever the order they come in."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._heap: list[tuple[float, float, str, Record]] = []

    def add(self, record: Record, luck: float, distance: float = 0.0) -> None:
        """Take a row in; of equal distances the luckier stays."""
        entry = (-distance, -luck, record.id, record)
        if len(self._heap) < self._n:
            heapq.heappush(self._heap, entry)
        elif entry[:3] > self._heap[0][:3]:
            heapq.heapreplace(self._heap, entry)

    def rows(self) -> Iterator[Record]:
        """The rows, smallest key first."""
        return (record for *_, record in sorted(self._heap, key=lambda e: e[:3], reverse=True))


def draw(stage: FilterStage, version: Version, n: int, seed: int) -> list[Picked]:
    """A stratified sample of a filter version, in an order that tells nothing."""
    groups: dict[str, dict[str, Shortlist]] = {"kept": {}, "dropped": {}, "near": {}}
    for record in version.everything():
        luck = _luck(seed, record)
        for group, stratum, distance in _strata(stage, record):
            groups[group].setdefault(stratum, Shortlist(n)).add(record, luck, distance)
    turns = [_in_turn(strata) for strata in groups.values()]
    picked: dict[str, Picked] = {}
    for one in itertools.chain.from_iterable(itertools.zip_longest(*turns)):
        if one is not None and len(picked) < n:
            picked.setdefault(one.record.id, one)
    return sorted(picked.values(), key=lambda one: digest([seed, "order", one.record.id]))


def write(picked: list[Picked], run: Run, version: Version, out: Path | None) -> list[Path]:
    """The files to fill in: CSV and JSONL in the run's folder, or the one that `out` names. Raises UsageError."""
    sample = digest([version.name, [one.record.id for one in picked]], 8)
    folder = run.path / "review"
    files = [out] if out is not None else [folder / f"{version.name}-{len(picked)}{suffix}" for suffix in SUFFIXES]
    for file in files:
        if file.suffix not in SUFFIXES:
            raise UsageError(f"--out {file}: the file's name has to end in .csv or .jsonl")
        if file.exists():
            raise UsageError(f"{file} is there already and may hold marks", hint="name another file: --out FILE")
    rows = [_row(one.record, sample) for one in picked]
    key = {one.record.id: {"stratum": one.stratum, "kept": not one.record.dropped} for one in picked}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{sample}.json", pretty({"version": version.name, "rows": key}))
        for file in files:
            write_atomic(file, _csv(rows) if file.suffix == ".csv" else _jsonl(rows))
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from error
    return files


def read_back(stage: FilterStage, run: Run, file: Path, good_from: float | None) -> Read:
    """Count agreement with the filters and write the marks as gold for `calibrate`. Raises UsageError."""
    gold = read(file, run)
    key = _key(run, file)
    marked = [(mark, key[mark.record.id]) for mark in gold.marks if mark.record.id in key]
    if not marked:
        raise UsageError(f"{file} marks no row of its sample: the ids have changed")
    threshold = good_from if good_from is not None else _threshold(stage)
    verdicts = [(_keeps(mark, threshold), known) for mark, known in marked]
    strata = []
    for stratum in sorted({known["stratum"] for known in key.values()}):
        keeps = [keep for keep, known in verdicts if known["stratum"] == stratum]
        rows = sum(known["stratum"] == stratum for known in key.values())
        strata.append(Agreed(stratum, rows, len(keeps), share("people keep", sum(keeps), len(keeps))))
    agree = sum(keep == known["kept"] for keep, known in verdicts) / len(verdicts)
    target = file.with_name(f"{file.stem}-gold.jsonl")
    lines = [_gold_line(mark) for mark, _ in marked]
    write_atomic(target, b"".join(lines))
    return Read(strata, len(marked), gold.unmarked, agree, target)


def _luck(seed: int, record: Record) -> float:
    return int(digest([seed, "review", record.id], 12), 16) / 16**12


def _strata(stage: FilterStage, record: Record) -> Iterator[tuple[str, str, float]]:
    """Where a row may be drawn from: group, stratum, and the distance from that stratum's threshold."""
    if record.dropped:
        yield "dropped", f"dropped: {record.by}: {record.reason}", 0.0
    else:
        yield "kept", "kept", 0.0
    if record.reason in UNMEASURED:
        return
    for rule in stage.rules:
        value = record.scored(rule.label)
        if value is None or (record.dropped and record.by != rule.label):
            continue
        for setting, _ in rule.bounds:
            if (bound := getattr(rule, setting)) is not None:
                fate = "dropped" if record.dropped else "kept"
                yield "near", f"near: {rule.label}.{setting}: {fate}", abs(value - float(bound))


def _in_turn(strata: dict[str, Shortlist]) -> Iterator[Picked]:
    """One row of every stratum, then another of every one."""
    columns = [[Picked(record, name) for record in strata[name].rows()] for name in sorted(strata)]
    for turn in itertools.zip_longest(*columns):
        yield from (one for one in turn if one is not None)


def _row(record: Record, sample: str) -> dict[str, str]:
    values = (record.id, sample, asked_in(record), record.answer, "", "", "")
    return dict(zip(COLUMNS, values, strict=True))


def _csv(rows: list[dict[str, str]]) -> bytes:
    """With a BOM, without which spreadsheets take UTF-8 for something else; no cell is a formula."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8-sig")


def _jsonl(rows: list[dict[str, str]]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _key(run: Run, file: Path) -> dict[str, dict[str, Any]]:
    """What the rows of a filled-in file stand for."""
    rows = read_csv(file) if file.suffix.lower() == ".csv" else read_rows(file)
    samples = {str(row.get("sample", "")) for row, _ in rows}
    key: dict[str, dict[str, Any]] = {}
    for sample in sorted(samples):
        known = run.path / "review" / f"{sample}.json"
        if not sample.isalnum() or not known.is_file():
            raise UsageError(
                f"{file}: the sample {sample!r} was not drawn by this run",
                hint="keep the column `sample` as it was written; marks of other rows go to `calibrate --gold`",
            )
        key |= orjson.loads(known.read_bytes())["rows"]
    return key


def _threshold(stage: FilterStage) -> float | None:
    judges = [rule.min_score for rule in stage.rules if isinstance(rule, Judge)]
    return judges[0] if len(judges) == 1 else None


def _keeps(mark: Mark, threshold: float | None) -> bool:
    if mark.keep is not None:
        return mark.keep
    if threshold is None:
        raise UsageError(
            f"{mark.where} has a score and no `keep`", hint="say from which score a row is good: --good-from"
        )
    return mark.value >= threshold


def _gold_line(mark: Mark) -> bytes:
    row = {"id": mark.record.id, "messages": [m.model_dump() for m in mark.record.messages]}
    marks = {"score": mark.score, "keep": mark.keep}
    return orjson.dumps(row | {k: v for k, v in marks.items() if v is not None}, option=orjson.OPT_APPEND_NEWLINE)
