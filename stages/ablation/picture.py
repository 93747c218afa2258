"""What each choice brought, as an SVG: a row a contrast, a panel a metric, a dot with its 95 % interval.

Text stays text, in whatever font the viewer has. The same figures give the same bytes. Places and sizes are in inches,
from the sheet's upper left corner.
"""

import io
import math
import statistics
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.picture import INK, SOFT, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figures = dict[str, Any]

PANELS = 6  # metrics that are drawn, at most
ABREAST = 4  # panels of one line, at most
MARGIN, GAP, LEAST = 0.3, 0.3, 7.6
LABELS, PANEL, NARROW = (1.2, 3.2), 2.5, 2.1  # widths: of the names of contrasts, of a panel, of one of four
TOP, HEAD, ROW, FOOT = 1.12, 0.52, 0.44, 0.62
TITLE, NAME, SMALL = 14.0, 9.0, 7.5  # points of type
HUGE = 1e100  # a number beyond is as good as without end
LITTLE = 1e-9  # a difference is rounding
FAR = 4.0  # times the usual interval: where a longer one is cut
LOOKS = {"better": ("#009E73", "o"), "worse": ("#D55E00", "s"), "no difference shown": (SOFT, "D")}
OPEN = "no interval"
BETTER_SIDE, RULE = "#edf5f1", "#e2e2e2"
UNDER: Figures = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5}}
CAPTION = (
    "Marks: the first arm less the second; of perplexities their ratio, of win rates what is over a half.",
    "Lines: 95 % intervals over students and prompts; a line that ends in an arrow goes on.",
)


class Spot(NamedTuple):
    """A difference: from 0, which is none, and of a ratio the logarithm. Ends are None where there is no interval."""

    at: float
    low: float | None
    high: float | None
    verdict: str


class _Panel(NamedTuple):
    """A metric, where it stands on the sheet, and what its left and right ends mean."""

    metric: Figures
    x: float
    y: float
    width: float
    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a difference lies; one beyond the ends lies on them."""
        share = (value - self.low) / (self.high - self.low)
        return self.x + self.width * min(1.0, max(0.0, share))


def spot(one: Figures) -> Spot | None:
    """A contrast's difference by one metric; None where it is undefined. An end may be infinite."""
    found = one["difference"] or {}
    at, low, high = (_distance(one["style"], found.get(key)) for key in ("value", "low", "high"))
    if at is None or not math.isfinite(at):
        return None
    return Spot(at, low, high, one["verdict"]) if None not in (low, high) else Spot(at, None, None, one["verdict"])


def _distance(style: str, value: Any) -> float | None:
    if not isinstance(value, int | float) or math.isnan(value):
        return None
    if style == "perplexity":
        if value < 0:
            return None
        return math.copysign(math.inf, value - 1) if not 1 / HUGE < value < HUGE else math.log(value)
    return float(value) if abs(value) < HUGE else math.copysign(math.inf, value)


def ends(spots: Iterable[Spot]) -> tuple[float, float]:
    """From where to where an axis goes that shows all of them and 0; intervals that are very long are cut."""
    spots = list(spots)
    dots = [s.at for s in spots]
    reached = [end for s in spots for end in (s.low, s.high) if end is not None]
    usual = [abs(end) for end in reached if math.isfinite(end)]
    most = max([*map(abs, dots), min(FAR * statistics.median(usual), max(usual)) if usual else 0.0])
    inside = [0.0, *dots, *(min(most, max(-most, end)) for end in reached)]
    low, high = min(inside), max(inside)
    span = max(high - low, LITTLE) if high > low else 1.0
    return min(low - 0.06 * span, -0.16 * span), max(high + 0.06 * span, 0.16 * span)


def _metrics(contrasts: Iterable[Figures]) -> tuple[list[Figures], list[Figures]]:
    """The metrics of contrasts, each as its first row there: those that are drawn, and the others.

    Where one has no difference anywhere it is not drawn, unless that is so of all.
    """
    found: dict[str, Figures] = {}
    telling = set()
    for one in contrasts:
        found.setdefault(one["metric"], one)
        if (known := spot(one)) is not None and (known.low is not None or known.at):
            telling.add(one["metric"])
    drawn = [name for name in found if name in telling or not telling][:PANELS]
    return [found[name] for name in drawn], [one for name, one in found.items() if name not in drawn]


def svg(figures: Figures, title: str) -> bytes:
    """The picture of an ablation's figures as an SVG file."""
    import matplotlib
    from matplotlib.figure import Figure

    rows: dict[tuple[str, str, str], dict[str, Figures]] = {}
    for one in figures["contrasts"]:
        rows.setdefault((one["brought"], one["first"], one["second"]), {})[one["metric"]] = one
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The font that measures text here need not have every script; the viewer's will.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        labels = _labels_width(rows)
        metrics, others = _metrics(figures["contrasts"])
        panels = _panels(figures["contrasts"], metrics, labels, len(rows))
        width = max([LEAST, *(panel.x + panel.width + MARGIN for panel in panels)])
        below = max([TOP, *(panel.y + len(rows) * ROW + FOOT for panel in panels)])
        height = below + 0.18 * len(CAPTION) + (0.38 if others else 0.2)
        figure = Figure((width, height), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        _head(axes, figures, title, width)
        for panel in panels:
            _panel(axes, panel, len(rows))
            if panel.x == panels[0].x:
                _names(axes, list(rows), panel.y, labels, width)
            for n, row in enumerate(rows.values()):
                if (one := row.get(panel.metric["metric"])) is not None:
                    _mark(axes, panel, panel.y + (n + 0.5) * ROW, spot(one))
        _foot(axes, others, below, width - 2 * MARGIN)
        figure.savefig(out, format="svg", metadata={"Date": None, "Title": _clean(title)})
    return out.getvalue()


def _labels_width(rows: Iterable[tuple[str, str, str]]) -> float:
    """Of the column that names the contrasts."""
    wide = [max(_width(brought, NAME, "bold"), _width(_against(a, b), SMALL)) for brought, a, b in rows]
    least, most = LABELS
    return min(most, max([least, *wide])) + 0.1


def _panels(contrasts: Sequence[Figures], metrics: Sequence[Figures], labels: float, rows: int) -> list[_Panel]:
    """Where every metric goes: in lines of about as many."""
    abreast = math.ceil(len(metrics) / max(1, math.ceil(len(metrics) / ABREAST)))
    width = NARROW if abreast == ABREAST else PANEL
    found = []
    for n, metric in enumerate(metrics):
        line, place = divmod(n, abreast)
        x = MARGIN + labels + place * (width + GAP)
        y = TOP + line * (HEAD + rows * ROW + FOOT) + HEAD
        spots = [known for one in contrasts if one["metric"] == metric["metric"] and (known := spot(one))]
        found.append(_Panel(metric, x, y, width, *ends(spots)))
    return found


def _head(axes: "Axes", figures: Figures, title: str, width: float) -> None:
    """Title, what was trained, and what the marks mean."""
    room = width - 2 * MARGIN
    seeds, prompts = len(figures["seeds"]), figures["prompts"]
    about = f"{seeds} students of each arm, {figures['budget']:,} tokens each, measured on {prompts:,} held-out prompts"
    if not figures["contrasts"]:
        about = "There are no two arms to compare."
    _text(axes, (MARGIN, 0.34), _cut(f"What each choice brought: {title}", room, TITLE, "bold"), TITLE, weight="bold")
    _text(axes, (MARGIN, 0.62), about if seeds > 1 else about.replace("students", "student", 1), NAME)
    met = [known for one in figures["contrasts"] if (known := spot(one))]
    x = MARGIN + 0.06
    for word in (*LOOKS, OPEN):
        if any((known.verdict if known.verdict in LOOKS else OPEN) == word for known in met):
            axes.scatter(x, 0.9, zorder=3, **_look(word))
            _text(axes, (x + 0.13, 0.9), word, 8.5)
            x += _width(word, 8.5) + 0.5


def _names(axes: "Axes", rows: list[tuple[str, str, str]], y: float, labels: float, width: float) -> None:
    """What the rows of one line of panels compare, and a rule below each."""
    for n, (brought, first, second) in enumerate(rows):
        middle = y + (n + 0.5) * ROW
        _text(axes, (MARGIN, middle - 0.08), _cut(brought, labels - 0.1, NAME, "bold"), NAME, weight="bold")
        _text(axes, (MARGIN, middle + 0.1), _cut(_against(first, second), labels - 0.1, SMALL), SMALL, color=SOFT)
        axes.plot([MARGIN, width - MARGIN], [y + (n + 1) * ROW] * 2, color=RULE, linewidth=0.6, zorder=0.5)


def _panel(axes: "Axes", panel: _Panel, rows: int) -> None:
    """Its name, its axis, the line of no difference, and which side of that is better."""
    from matplotlib.patches import Rectangle

    bottom, none, right = panel.y + rows * ROW, panel.place(0), panel.x + panel.width
    higher = panel.metric["better"] == "higher"
    start, end = (none, right) if higher else (panel.x, none)
    axes.add_patch(Rectangle((start, panel.y), end - start, rows * ROW, facecolor=BETTER_SIDE, zorder=0))
    axes.plot([none, none], [panel.y, bottom], color=INK, linewidth=0.9, zorder=1)
    axes.plot([panel.x, right], [bottom, bottom], color=SOFT, linewidth=0.8, zorder=1)
    name = _cut(panel.metric["label"], panel.width, NAME, "bold")
    _text(axes, (panel.x, panel.y - 0.32), name, NAME, weight="bold")
    _text(axes, (end if higher else start, panel.y - 0.12), "better →" if higher else "← better", SMALL,
          color=LOOKS["better"][0], ha="right" if higher else "left")  # fmt: skip
    for value, said in _ticks(panel):
        at = panel.place(value)
        axes.plot([at, at], [bottom, bottom + 0.05], color=SOFT, linewidth=0.8)
        _text(axes, (at, bottom + 0.14), said, SMALL, color=SOFT, ha="center")
    unit = {"perplexity": "ratio", "share": "points"}.get(panel.metric["style"], "difference")
    _text(axes, (panel.x + panel.width / 2, bottom + 0.31), unit, SMALL, color=SOFT, ha="center")


def _ticks(panel: _Panel) -> list[tuple[float, str]]:
    """Round differences within a panel, with their words."""
    from matplotlib.ticker import MaxNLocator

    low, high, style = panel.low, panel.high, panel.metric["style"]
    round_ = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
    if style == "perplexity" and high - low > 1.5:
        most = max(-low, high)
        base = next(base for base in (2.0, 5.0, *(10.0**n for n in range(1, 120))) if most / math.log(base) < 3)
        found = [(n * math.log(base), f"{base**n:.3g}") for n in range(-3, 4)]
    elif style == "perplexity":
        ratios = map(float, round_.tick_values(math.exp(low), math.exp(high)))
        found = [(math.log(ratio), f"{ratio:.3g}") for ratio in ratios if ratio > 0]
    else:
        scale = 100 if style == "share" else 1
        values = map(float, round_.tick_values(scale * low, scale * high))
        found = [(value / scale, f"{value:+.3g}" if value else "0") for value in values]
    return [(value, said) for value, said in found if low <= value <= high]


def _mark(axes: "Axes", panel: _Panel, y: float, found: Spot | None) -> None:
    """A dot and its interval, with an arrow where that goes on beyond the panel."""
    if found is None:
        _text(axes, (panel.x + panel.width / 2, y), "undefined", SMALL, color=SOFT, ha="center", **UNDER)
        return
    word = found.verdict if found.low is not None else OPEN
    look = _look(word)
    if found.low is not None and found.high is not None:
        axes.plot([panel.place(found.low), panel.place(found.high)], [y, y], color=look["edgecolors"], linewidth=1.6)
        for end, beyond, arrow in ((found.low, found.low < panel.low, "<"), (found.high, found.high > panel.high, ">")):
            if beyond:
                axes.scatter(panel.place(end), y, s=22, c=look["edgecolors"], marker=arrow, linewidths=0)
    axes.scatter(panel.place(found.at), y, zorder=3, **look)


def _look(verdict: str) -> dict[str, Any]:
    """A mark that is told apart by its shape and by its colour."""
    colour, shape = LOOKS.get(verdict, (SOFT, "o"))
    fill = colour if verdict in LOOKS else "white"
    return {"s": 34.0 if shape == "o" else 27.0, "c": fill, "marker": shape, "edgecolors": colour, "linewidths": 1.2}


def _foot(axes: "Axes", others: Sequence[Figures], y: float, room: float) -> None:
    """How to read it, and which metrics are not drawn."""
    more = [f"Not drawn: {', '.join(one['label'] for one in others)}."] if others else []
    for n, said in enumerate([*CAPTION, *more]):
        _text(axes, (MARGIN, y + 0.18 * n), _cut(said, room, 8.0), 8.0, color=SOFT)


def _against(first: str, second: str) -> str:
    return f"{first} against {second}"


def _text(axes: "Axes", at: Sequence[float], text: str, size: float, **look: Any) -> None:
    x, y = at
    axes.text(x, y, _clean(text), **{"color": INK, "va": "center_baseline", "parse_math": False, "size": size, **look})


def _clean(text: str) -> str:
    """One line, without characters that XML does not allow."""
    return "".join(c for c in text if c.isprintable())


def _width(text: str, size: float, weight: str = "normal") -> float:
    """How wide a text is at most, whichever of the usual fonts the viewer has."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path
    from rich.cells import cell_len

    text = _clean(text)
    measured = text_to_path.get_text_width_height_descent(text, FontProperties(size=size, weight=weight), False)[0]
    return float(max(measured, cell_len(text) * 0.55 * size)) / 72


def _cut(text: str, room: float, size: float, weight: str = "normal") -> str:
    """The beginning of a text that is too wide."""
    text = _clean(text)
    if _width(text, size, weight) <= room:
        return text
    fits = bisect_right(range(len(text)), room, key=lambda letters: _width(f"{text[:letters]}…", size, weight)) - 1
    return f"{text[: max(0, fits)].rstrip()}…"
