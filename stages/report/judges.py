"""How far judges can be relied on: beside what people marked, beside one another, and beside mere length.

People's marks are those that `pipeline review --read` wrote into the run's folder. A judge's score is the one in the
row, so nobody is asked anything.
"""

from array import array
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from filters.judge import Judge
from filters.pairwise import Pairwise
from filters.reward import Reward
from filters.verdicts import UNMEASURED, asked_in
from pipeline.errors import PipelineError
from pipeline.store import Version
from stages.agreement import Scored, correlation, figures, of_scores, ranks
from stages.filter import FilterStage
from stages.gold import Gold, read
from stages.report.base import Section, Source, Table, figure, not_run, words

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
    if not names:
        return Section("judges", TITLE, missing="The plan has no judge.")
    marks, problems = _marks(source)
    scores, marked = _read(version, names, marks)
    found = [_judged(name, scores, marked[name], source.plan.seed) for name in names]
    notes = [note for note in version.manifest.notes if note.partition(":")[0] in names]
    data: dict[str, Any] = {"judges": found, "pairs": _pairs(scores), "notes": [*problems, *notes]}
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


def _judged(name: str, scores: _Scores, marked: dict[str, list[Scored]], seed: int) -> Judged:
    values = [v for v in scores.of[name] if v == v]
    people = None
    if (rows := sum(map(len, marked.values()))) > 2:
        lines = [
            [words(f.name), "undefined" if f.value is None else f"{f.value:.2f}",
             "" if f.low is None or f.high is None else f"{f.low:.2f} to {f.high:.2f}"]
            for f in figures(list(marked.values()), of_scores, seed)
        ]  # fmt: skip
        people = Table(["", "value", "95 % interval"], lines, ("value", "95 % interval"))
    mean = figure(sum(values) / len(values)) if values else ""
    return Judged(name, len(values), mean, _rho(scores.both(name, "length")), people, rows)


def _pairs(scores: _Scores) -> Table | None:
    """Each two judges."""
    names = scores.names
    rows = [[a, b, _rho(scores.both(a, b))] for n, a in enumerate(names) for b in names[n + 1 :]]
    return Table(["", "", "rank correlation"], rows, ("rank correlation",)) if rows else None


def _rho(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
