"""How far judges can be relied on: beside what people marked, beside one another, and beside mere length.

People's marks are those that `pipeline review --read` wrote into the run's folder, beside the judge's score in the row;
and what `pipeline calibrate` found is shown as it was kept. Nobody is asked anything.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from filters.judge import Judge
from filters.pairwise import Pairwise
from filters.reward import Reward
from filters.verdicts import UNMEASURED, asked_in
from pipeline.errors import PipelineError
from pipeline.store import Version
from stages import calibrated
from stages.agreement import Figure, Scored, correlation, figures, of_scores, ranks
from stages.calibrated import Calibrated
from stages.filter import FilterStage
from stages.gold import Gold, read
from stages.report.base import Section, Source, Table, clock, discreet, figure, not_run, words

TITLE = "Judges"
MARKS = "review/*-gold.jsonl"


class Judged(NamedTuple):
    """One judge: what it said of how many rows, and how that goes with people's marks."""

    name: str
    rows: int
    mean: str
    with_length: str
    people: Table | None
    marked: int
    calibrated: list["Asked"]


class Asked(NamedTuple):
    """What `calibrate` found of a rule by one gold file; `changed`: what the version's rule has otherwise."""

    rule: str
    gold: str
    sha256: str
    made: str
    rows: str
    unmeasured: str
    figures: Table
    changed: str
    notes: list[str]


class _Scores:
    """The scores of all judges, row by row, with the length of the answer: numbers alone are held."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.length = array("d")
        self.of = {name: array("d") for name in names}

    def add(self, values: dict[str, float], length: int) -> None:
        """A row; NaN for a judge that did not see it."""
        self.length.append(length)
        for name in self.names:
            self.of[name].append(values.get(name, float("nan")))

    def both(self, one: str, other: str) -> float | None:
        """Spearman's rho of two judges (or of one and `length`) over the rows that have both."""
        columns = [self.length if name == "length" else self.of[name] for name in (one, other)]
        pairs = [(a, b) for a, b in zip(*columns, strict=True) if a == a and b == b]
        return correlation(*map(ranks, zip(*pairs, strict=True))) if len(pairs) > 2 else None


def section(source: Source) -> Section:
    """Every judge of the plan over the rows of the filter's version."""
    version, stage = source.version("filter"), source.plan.stages().get("filter")
    if version is None or not isinstance(stage, FilterStage):
        return not_run("judges", TITLE, source, "filter")
    names = [rule.label for rule in stage.rules if isinstance(rule, Judge | Pairwise | Reward)]
    kept, broken = calibrated.kept(source.run)
    if not names and not kept:
        return Section("judges", TITLE, missing="The plan has no judge.")
    asked = [_asked(one, version, source) for one in kept]
    marks, problems = _marks(source)
    scores, marked = _read(version, names, marks)
    found = [
        _judged(name, scores, marked[name], source.plan.seed, [a for a in asked if a.rule == name]) for name in names
    ]
    notes = [note for note in version.manifest.notes if note.partition(":")[0] in names]
    data: dict[str, Any] = {
        "judges": found,
        "others": [a for a in asked if a.rule not in names],
        "pairs": _pairs(scores),
        "notes": [*problems, *broken, *notes],
    }
    return Section("judges", TITLE, data)


def _marks(source: Source) -> tuple[dict[str, Gold], list[str]]:
    found: dict[str, Gold] = {}
    problems = []
    for file in sorted(source.run.path.glob(MARKS)):
        try:
            found[file.name] = read(file, source.run)
        except PipelineError as error:
            problems.append(str(error).replace(str(file), Path(file).name))
    return found, problems


Marked = dict[str, dict[str, list[Scored]]]


def _read(version: Version, names: list[str], golds: dict[str, Gold]) -> tuple[_Scores, Marked]:
    """Scores of all rows; and by judge, for rows that people marked, both, by prompt."""
    marks = {mark.record.id: mark for gold in golds.values() for mark in gold.marks}
    scores = _Scores(names)
    marked: Marked = {name: defaultdict(list) for name in names}
    for record in version.everything():
        checks = {c.name: c for c in record.checks if c.name in names and c.reason not in UNMEASURED}
        if checks:
            scores.add({name: check.value for name, check in checks.items()}, len(record.answer))
        if (mark := marks.get(record.id)) is not None:
            for name, check in checks.items():
                row = Scored(check.value, mark.value, len(record.answer), check.passed, mark.keep)
                marked[name][asked_in(record)].append(row)
    return scores, marked


def _asked(one: Calibrated, version: Version, source: Source) -> Asked:
    unmeasured = ", ".join(f"{n:,} ({words(reason)})" for reason, n in one.unmeasured.items())
    here = source.file.parent
    changed = discreet("; ".join(one.changed(version)), here)
    notes = [discreet(note, here) for note in one.notes if note not in version.manifest.notes]
    figures = _table([found.figure for found in one.figures])
    rows = f"{one.rows:,} {one.sort}"
    return Asked(one.rule, one.gold, one.sha256[:8], clock(one.made), rows, unmeasured, figures, changed, notes)


def _table(found: Iterable[Figure]) -> Table:
    rows = [[words(one.name), one.shown, one.between] for one in found]
    return Table(["", "value", "95 % interval"], rows, ("value", "95 % interval"))


def _judged(name: str, scores: _Scores, marked: dict[str, list[Scored]], seed: int, asked: list[Asked]) -> Judged:
    values = [v for v in scores.of[name] if v == v]
    rows = sum(map(len, marked.values()))
    people = _table(figures(list(marked.values()), of_scores, seed)) if rows > 2 else None
    mean = figure(sum(values) / len(values)) if values else ""
    return Judged(name, len(values), mean, _rho(scores.both(name, "length")), people, rows, asked)


def _pairs(scores: _Scores) -> Table | None:
    """Each two judges."""
    names = scores.names
    rows = [[a, b, _rho(scores.both(a, b))] for n, a in enumerate(names) for b in names[n + 1 :]]
    return Table(["", "", "rank correlation"], rows, ("rank correlation",)) if rows else None


def _rho(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
