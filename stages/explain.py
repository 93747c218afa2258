"""filter --explain: for each threshold how the measured values lie, what other thresholds would keep, and the rows on
either side of it.

A rule says which of its settings bound the value it measures (`Rule.bounds`). Rows that an earlier rule dropped were
not measured, unless the plan measures everything; the counts are of those that were.
"""

import heapq
from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from filters.verdicts import UNMEASURED
from pipeline.store import Version
from stages.filter import FilterStage

BINS = 12
Side = Literal["min", "max"]


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


def explain(stage: FilterStage, version: Version, samples: int = 2) -> list[Threshold]:
    """Every threshold of the stage's rules over a version's rows; two passes, values alone in memory."""
    wanted = [(rule.label, setting, side, float(bound)) for rule in stage.rules for setting, side in rule.bounds
              if (bound := getattr(rule, setting)) is not None]  # fmt: skip
    values: dict[str, list[float]] = {label: [] for label, *_ in wanted}
    for record in version.everything():
        for check in record.checks:
            if check.name in values and check.reason not in UNMEASURED:
                values[check.name].append(check.value)
    for measured in values.values():
        measured.sort()
    around = _around(version, wanted, samples)
    return [
        _threshold(label, setting, side, bound, values[label], around[n])
        for n, (label, setting, side, bound) in enumerate(wanted)
        if values[label]
    ]


def _around(version: Version, wanted: list[tuple[str, str, Side, float]], samples: int) -> list[list[Sample]]:
    """For each threshold the closest rows on both sides of it, from below to above."""
    closest: list[dict[bool, list[tuple[float, str, Sample]]]] = [{True: [], False: []} for _ in wanted]
    for record in version.everything():
        for n, (label, _, side, bound) in enumerate(wanted):
            check = next((c for c in record.checks if c.name == label), None)
            if check is None or check.reason in UNMEASURED:
                continue
            value = check.value
            passes = value >= bound if side == "min" else value <= bound
            heap = closest[n][passes]
            heapq.heappush(heap, (-abs(value - bound), record.id, Sample(value, passes, record.id, record.answer)))
            if len(heap) > samples:
                heapq.heappop(heap)
    return [
        sorted((s for heap in found.values() for *_, s in heap), key=lambda s: (s.value, s.id)) for found in closest
    ]


def _threshold(
    label: str, setting: str, side: Side, bound: float, values: list[float], samples: list[Sample]
) -> Threshold:
    edges, counts = histogram(values)
    nearby = [Near(t, kept(values, t, side)) for t in others(values, bound)]
    return Threshold(
        label, setting, side, bound, len(values), kept(values, bound, side), edges, counts, nearby, samples
    )


def kept(values: list[float], threshold: float, side: Side) -> int:
    """How many of the sorted `values` a threshold keeps; it keeps those equal to it."""
    if side == "min":
        return len(values) - bisect_left(values, threshold)
    return bisect_right(values, threshold)


def histogram(values: list[float]) -> tuple[list[float], list[int]]:
    """Edges and counts of bins of one width over the middle 98 % of sorted `values`; the ends take in the rest."""
    low, high = values[len(values) // 100], values[-1 - len(values) // 100]
    if low == high:
        return [low, high], [len(values)]
    edges = [low + (high - low) * n / BINS for n in range(BINS + 1)]
    places = [0, *(bisect_left(values, edge) for edge in edges[1:-1]), len(values)]
    return edges, [b - a for a, b in pairwise(places)]


def others(values: list[float], bound: float) -> list[float]:
    """Thresholds to compare: the one set, and those at steps of 5 % of the rows to both sides of it."""
    place = bisect_left(values, bound)
    step = max(1, len(values) // 20)
    found = {values[p] for n in (-3, -2, -1, 1, 2, 3) if 0 <= (p := place + n * step) < len(values)}
    return sorted({*found, bound})
