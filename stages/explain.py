"""filter --explain: for each threshold how the measured values lie, what other thresholds would keep, and the rows on
either side of it.

A rule says what its settings bound (`Rule.measures`): the value of its check, or further measures, which it takes again
of the text as it was written. Rows that an earlier rule dropped were not measured, unless the plan measures everything;
the counts are of those that were. Each threshold is looked at by itself.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from itertools import pairwise
from typing import Any, NamedTuple

from filters.base import Measure, Side
from filters.verdicts import UNMEASURED
from pipeline import console
from pipeline.store import SHARDS, Version
from stages.filter import FilterStage

BINS = 12


class Near(NamedTuple):
    """Another threshold, and how many measured rows it would keep."""

    threshold: float
    kept: int


class Sample(NamedTuple):
    """A row close to the threshold."""

    value: float
    kept: bool
    id: str
    text: str


class Threshold(NamedTuple):
    """One setting that bounds a rule's value."""

    rule: str
    setting: str
    side: Side
    threshold: float
    measured: int
    kept: int
    edges: list[float]
    counts: list[int]
    nearby: list[Near]
    samples: list[Sample]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        inner = {name: [row._asdict() for row in getattr(self, name)] for name in ("nearby", "samples")}
        return self._asdict() | inner


class _Threshold:
    """The values at one threshold so far, and the rows that lie closest to it on either side."""

    def __init__(self, bound: Measure, samples: int) -> None:
        self._bound, self._samples = bound, samples
        self._values = array("d")
        self._closest: dict[bool, list[tuple[float, str, Sample]]] = {True: [], False: []}

    def add(self, sample: Sample) -> None:
        """Count a row, and keep it where few are as close."""
        self._values.append(sample.value)
        closest, place = self._closest[sample.kept], (abs(sample.value - self._bound.bound), sample.id)
        if len(closest) < self._samples or place < closest[-1][:2]:
            insort(closest, (*place, sample))
            del closest[self._samples :]

    def told(self, rule: str) -> Threshold:
        """What is to be shown."""
        setting, side, bound, _ = self._bound
        values = sorted(self._values)
        nearby = [Near(threshold, kept(values, threshold, side)) for threshold in others(values, bound)]
        samples = sorted((s for rows in self._closest.values() for *_, s in rows), key=lambda s: (s.value, s.id))
        passed = kept(values, bound, side)
        return Threshold(rule, setting, side, bound, len(values), passed, *histogram(values), nearby, samples)


def explain(stage: FilterStage, version: Version, samples: int = 2) -> list[Threshold]:
    """Every threshold that rows of a version were held against, as the plan has them; values alone in memory."""
    found: list[dict[str, _Threshold]] = [{} for _ in stage.rules]
    with console.Bar("explain", sum(map(version.rows, SHARDS))) as bar:
        for record in version.everything():
            checks = {check.name: check for check in record.checks}
            for rule, thresholds in zip(stage.rules, found, strict=True):
                check = checks.get(rule.label)
                if check is None or check.reason in UNMEASURED:
                    continue
                text = record.prompt if getattr(rule, "on", "") == "prompt" else record.answer
                for one in rule.measures(record):
                    passes = one.value >= one.bound if one.side == "min" else one.value <= one.bound
                    if passes or not check.passed:  # else an exception of the rule's let it pass
                        if one.setting not in thresholds:
                            thresholds[one.setting] = _Threshold(one, samples)
                        thresholds[one.setting].add(Sample(one.value, passes, record.id, text))
            bar.advance()
    return [
        thresholds[setting].told(rule.label)
        for rule, thresholds in zip(stage.rules, found, strict=True)
        for setting in sorted(thresholds, key=lambda name: list(type(rule).model_fields).index(name.split(".")[0]))
    ]


def kept(values: list[float], threshold: float, side: Side) -> int:
    """How many of the sorted `values` a threshold keeps; it keeps those equal to it."""
    if side == "min":
        return len(values) - bisect_left(values, threshold)
    return bisect_right(values, threshold)


def histogram(values: list[float]) -> tuple[list[float], list[int]]:
    """Edges and counts of bins over sorted `values`: of one width in the middle 98 %, the outer ones reach to the ends.

    Where those 98 % are one value the bins are of one width throughout; where all are, there is one bin.
    """
    first, last = values[0], values[-1]
    low, high = values[len(values) // 100], values[-1 - len(values) // 100]
    if low == high:
        low, high = first, last
    if low == high:
        return [first, last], [len(values)]
    edges = [first, *(low + (high - low) * n / BINS for n in range(1, BINS)), last]
    places = [0, *(bisect_left(values, edge) for edge in edges[1:-1]), len(values)]
    return edges, [b - a for a, b in pairwise(places)]


def others(values: list[float], bound: float) -> list[float]:
    """Thresholds to compare: the one set, and up to three of the sorted `values` on either side of it, as shown."""
    step = max(1, len(values) // 20)
    below, above = values[: bisect_left(values, bound)], values[bisect_right(values, bound) :]
    beside = {*_outward(below[::-1], step), *_outward(above, step)}
    return sorted({*(float(round(v)) if abs(v) >= 1000 else float(f"{v:.4g}") for v in beside), bound})


def _outward(values: list[float], step: int) -> set[float]:
    """Three values at steps of so many rows, or of half as many and so on where those are the same or too few."""
    steps = (step >> half for half in range(step.bit_length()))
    return max((set(values[one - 1 : 3 * one : one]) for one in steps), key=len)
