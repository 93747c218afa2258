"""Charts as places in a small drawing: the templates write them as SVG, whose colours and letters the page's CSS sets.

A drawing is `WIDTH` wide, so that letters stay readable where it fills the width of a phone.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from stages.report.base import figure

WIDTH, HEIGHT = 340, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 14, 22
POINTS = 300  # of a line are drawn, at most


class Tick(NamedTuple):
    """A value on an axis, and where."""

    at: float
    text: str


class Bar(NamedTuple):
    """One bar and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    title: str


class Histogram(NamedTuple):
    """Counts by bins of equal breadth on paper, and where the threshold lies among them."""

    bars: list[Bar]
    ticks: list[Tick]
    mark: float
    mark_text: str
    shade: tuple[float, float]
    """from where to where values are dropped"""


class Line(NamedTuple):
    """One curve; `dots` can be pointed at."""

    name: str
    path: str
    dots: list[tuple[float, float, str]]


class Plot(NamedTuple):
    """Curves over common axes."""

    lines: list[Line]
    across: list[Tick]
    up: list[Tick]
    log: bool


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from `low` to `high`, at most so many."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * n for n in (1, 2, 2.5, 5, 10, 20) if (high - low) / (size * n) <= most - 1 or n == 20)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def histogram(edges: Sequence[float], counts: Sequence[int], bound: float, side: str) -> Histogram:
    """Bins of values beside a threshold; `side` "min" where what lies below it is dropped."""
    left, right, bottom = 10, WIDTH - 10, HEIGHT - BOTTOM
    step = (right - left) / len(counts)
    most = max(counts)
    bars = []
    for n, count in enumerate(counts):
        height = max(1.0, (bottom - TOP) * count / most) if count else 0
        within = figure(edges[n]) if edges[n] == edges[n + 1] else f"{figure(edges[n])} to {figure(edges[n + 1])}"
        places = (left + n * step + 1, bottom - height, step - 2, height)
        x, y, width, tall = (round(place, 1) for place in places)
        bars.append(Bar(x, y, width, tall, f"{within}: {count:,}"))
    mark = _among(edges, bound, (left, step, len(counts)))
    shade = (left - 8, mark) if side == "min" else (mark, right + 8)
    shown = [Tick(left, figure(edges[0])), Tick(right, figure(edges[-1]))] if edges[-1] > edges[0] else []
    return Histogram(bars, shown, mark, figure(bound), shade)


def _among(edges: Sequence[float], bound: float, room: tuple[float, float, int]) -> float:
    """Where a threshold lies: within its bin in proportion, or just beside all of them."""
    left, step, bins = room
    if edges[0] == edges[-1] or bound < edges[0] or bound > edges[-1]:
        return left - 6 if bound <= edges[0] else left + step * bins + 6
    place = min(bins - 1, bisect_right(edges, bound) - 1)
    within = (bound - edges[place]) / ((edges[place + 1] - edges[place]) or 1)
    return round(left + step * (place + within), 1)


def plot(series: dict[str, list[tuple[float, float]]]) -> Plot:
    """Curves by name, each of (x, y) with x ascending. Values over a hundredfold range stand on a logarithmic axis."""
    series = {name: _thinned(points) for name, points in series.items()}
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    log = min(ys) > 0 and max(ys) / min(ys) > 100
    across = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Axis(*((math.log10(min(ys)), math.log10(max(ys))) if log else (min(ys), max(ys))), HEIGHT - BOTTOM, TOP)

    def at(x: float, y: float) -> tuple[float, float]:
        return across.at(x), up.at(math.log10(y) if log else y)

    lines = []
    for name, points in series.items():
        places = [at(x, y) for x, y in points]
        path = " ".join(f"{'M' if n == 0 else 'L'}{x:g} {y:g}" for n, (x, y) in enumerate(places))
        dots = [(*place, f"{figure(x)}: {figure(y)}") for place, (x, y) in zip(places, points, strict=True)]
        lines.append(Line(name, path, dots if len(dots) <= 120 else []))
    return Plot(lines, across.ticks(5), up.ticks(4, power=log), log)


class _Axis:
    """Values from `low` to `high` laid from `start` to `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = (low, high) if high > low else (low - 0.5, high + 0.5)
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        """Its place."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    def ticks(self, most: int, *, power: bool = False) -> list[Tick]:
        """Round values; with `power` the axis holds their logarithms to the base of ten."""
        values = ticks(self.low, self.high, most)
        return [Tick(self.at(v), figure(float(f"{10**v:.3g}") if power else v)) for v in values]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every n-th point, and the last, where there are too many."""
    step = math.ceil(len(points) / POINTS)
    return points[::step] + ([points[-1]] if (len(points) - 1) % step else [])
