"""A map of the records and of who was chosen: the two principal axes of their vectors, as an SVG.

Text stays text, in whatever font the viewer has; points are images inside, so that many stay small. The same input
gives the same bytes. Places and sizes are in inches.
"""

import io
import unicodedata
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.diversity import sample
from stages.labels import HEIGHT as BOX
from stages.labels import place

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]
    Places = NDArray[np.float64]

NOT_CHOSEN, CHOSEN, DUPLICATE = 0, 1, 2  # what became of a record
DRAWN = 50_000  # points at most; half of them for the chosen, if there are so many
FIT = 20_000  # vectors the axes are taken from, at most
BLOCK = 4096
WIDTH, HEIGHT, MARGIN = 12.0, 7.6, 0.25
MAP_WIDTH, MAP_HEIGHT, BELOW = 8.0, 6.3, 0.6
KEY_WIDTH = WIDTH - MAP_WIDTH - 3 * MARGIN
# Okabe and Ito's palette, told apart by the colour-blind too, without black, and without yellow, pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("o", "s", "^", "D")
INK, SOFT, PALE = "#222222", "#666666", "#b0b0b0"
LABEL, SMALL = 8.0, 9.0  # points of type
COLUMN = 0.6 / 72  # width of a letter, per point of type
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "pipeline", "font.family": ["sans-serif"]}


class Scene(NamedTuple):
    """What the map shows of N records."""

    title: str
    vectors: "NDArray[np.float32]"
    """(N, D), unit length; may be a file mapped into memory"""
    fates: "NDArray[np.int8]"
    """(N,) `NOT_CHOSEN`, `CHOSEN` or `DUPLICATE`"""
    topics: "Rows"
    """(N,) as numbers from 0"""
    names: list[str]
    """of the topics"""


class _Points(NamedTuple):
    """The records that are drawn, and where."""

    rows: "Rows"
    places: "Places"
    """(P, 2) on the map"""
    shares: tuple[float, float]
    """of the variance, along the two axes"""


def svg(scene: Scene, seed: int) -> bytes:
    """The map as an SVG file; which points are drawn, where there are more than 50,000, depends on the seed."""
    import matplotlib
    from matplotlib.figure import Figure

    points = _points(scene, seed)
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The font that measures text here need not have every script; the viewer's will.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure((WIDTH, HEIGHT), facecolor="white")
        _write(_sheet(figure, MARGIN, 0, WIDTH - 2 * MARGIN, HEIGHT), scene, points)
        _map(_sheet(figure, MARGIN, BELOW, MAP_WIDTH, MAP_HEIGHT), scene, points)
        _key(_sheet(figure, MAP_WIDTH + 2 * MARGIN, BELOW, KEY_WIDTH, MAP_HEIGHT), scene)
        figure.savefig(out, format="svg", dpi=200, metadata={"Date": None, "Title": _clean(scene.title)})
    return out.getvalue()


def _points(scene: Scene, seed: int) -> _Points:
    import numpy as np

    chosen, others = (np.flatnonzero(here) for here in (scene.fates == CHOSEN, scene.fates != CHOSEN))
    chosen = chosen[sample(len(chosen), max(DRAWN // 2, DRAWN - len(others)), seed)]
    others = others[sample(len(others), DRAWN - len(chosen), seed)]
    rows = np.sort(np.concatenate([chosen, others]))
    places, shares = project(scene.vectors, rows, seed)
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([MAP_WIDTH, MAP_HEIGHT]) - 2 * MARGIN
    scale = (room / np.maximum(high - low, 1e-6)).min()  # one for both axes keeps distances in proportion
    places = (places - (low + high) / 2) * scale + (MAP_WIDTH / 2, MAP_HEIGHT / 2)
    return _Points(rows, np.round(places, 3), shares)


def project(vectors: "NDArray[np.float32]", rows: "Rows", seed: int) -> tuple["Places", tuple[float, float]]:
    """Coordinates on the two principal axes, and the axes' shares of the variance; zeros for axes there are not."""
    import numpy as np
    from sklearn.decomposition import PCA

    seen = np.asarray(vectors[sample(len(vectors), FIT, seed)])
    found = np.zeros((len(rows), 2))
    if np.ptp(seen, axis=0).max() < 1e-6:
        return found, (0.0, 0.0)
    model = PCA(min(2, *seen.shape), random_state=seed).fit(seen)
    for start in range(0, len(rows), BLOCK):
        block = model.transform(np.asarray(vectors[rows[start : start + BLOCK]]))
        found[start : start + BLOCK, : block.shape[1]] = block
    first, second = (*model.explained_variance_ratio_.tolist(), 0.0)[:2]
    return found, (first, second)


def _sheet(figure: "Figure", left: float, bottom: float, width: float, height: float) -> "Axes":
    """A part of the figure that is drawn on in inches from its lower left corner."""
    axes = figure.add_axes((left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def _write(axes: "Axes", scene: Scene, points: _Points) -> None:
    """Title and caption."""
    first, second = (f"{100 * share:.1f} %" for share in points.shares)
    caption = (
        f"The two principal axes of the vectors, with {first} and {second} of their variance. Records far apart here "
        "are unlike;\nclose ones may still differ in what two axes do not show."
    )
    if len(points.rows) < len(scene.fates):
        drawn = (scene.fates[points.rows] == CHOSEN).sum()
        caption += f" Drawn are {drawn:,} chosen ones and {len(points.rows) - drawn:,} others, taken at random."
    chosen, duplicates = ((scene.fates == fate).sum() for fate in (CHOSEN, DUPLICATE))
    counts = f"{chosen:,} of {len(scene.fates):,} records chosen, {duplicates:,} dropped as duplicates"
    _text(axes, (0, HEIGHT - 0.28), scene.title, size=14, weight="bold")
    _text(axes, (0, HEIGHT - 0.53), counts, size=SMALL + 1)
    _text(axes, (0, 0.36), caption, size=SMALL, color=SOFT)


def _map(axes: "Axes", scene: Scene, points: _Points) -> None:
    """The points, the chosen ones on top, and the topics' names over them."""
    import numpy as np
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((0, 0), MAP_WIDTH, MAP_HEIGHT, fill=False, edgecolor="#d0d0d0", clip_on=False))
    fates, topics = scene.fates[points.rows], scene.topics[points.rows]
    rest, duplicates = (points.places[fates == fate] for fate in (NOT_CHOSEN, DUPLICATE))
    axes.scatter(*rest.T, **_spot(NOT_CHOSEN, _area(len(rest))), rasterized=True)
    axes.scatter(*duplicates.T, **_spot(DUPLICATE, 2 * _area(len(rest))), rasterized=True)
    size = 4 * _area(int(np.sum(fates == CHOSEN)))
    for number in range(len(scene.names)):
        mine = points.places[(fates == CHOSEN) & (topics == number)]
        axes.scatter(*mine.T, **_spot(CHOSEN, size, number), rasterized=True)
    _label(axes, scene.names, points.places, topics, fates == CHOSEN)


def _label(axes: "Axes", names: list[str], places: "Places", topics: "Rows", chosen: "NDArray[np.bool_]") -> None:
    """Number and a term of each topic in a white box, with a line to its middle where they stand apart."""
    import numpy as np
    from matplotlib.patches import FancyBboxPatch

    numbers = np.unique(topics).tolist()
    texts = [f"{number + 1} {_cut(term, 16)}" for number, term in enumerate(_short(names)) if number in numbers]
    widths = [_columns(text) * COLUMN * LABEL + 0.1 for text in texts]
    middles = np.stack([np.median(places[topics == number], axis=0) for number in numbers])
    boxes = place(middles, widths, places[chosen], (MAP_WIDTH, MAP_HEIGHT))
    for number, text, width, middle, box in zip(numbers, texts, widths, middles, boxes, strict=True):
        colour = COLOURS[number % len(COLOURS)]
        if np.hypot(*(box - middle)) > BOX:
            axes.plot(*np.stack([middle, box]).T, color=colour, linewidth=0.8, zorder=4)
            axes.plot(*middle[:, None], "o", color=colour, markeredgecolor="white", markersize=4, zorder=4)
        frame = FancyBboxPatch(box - (width / 2, BOX / 2), width, BOX, "round,pad=0,rounding_size=0.05", zorder=5)
        frame.set(facecolor="white", edgecolor=colour, linewidth=0.9, alpha=0.9)
        axes.add_patch(frame)
        _text(axes, box, text, size=LABEL, ha="center", zorder=6)


def _short(names: list[str]) -> list[str]:
    """Of each name the first term that no earlier one has, or the very first."""
    found: list[str] = []
    for name in names:
        terms = name.split(", ")
        found.append(next((term for term in terms if term not in found), terms[0]))
    return found


def _key(axes: "Axes", scene: Scene) -> None:
    """What the marks mean, and each topic with how many of its records were chosen."""
    import numpy as np

    counts = np.bincount(scene.fates, minlength=3).tolist()
    of_topic = np.bincount(scene.topics, minlength=len(scene.names)).tolist()
    chosen = np.bincount(scene.topics[scene.fates == CHOSEN], minlength=len(scene.names)).tolist()
    lines: list[tuple[dict[str, Any], str, str]] = [
        (_spot(CHOSEN, 28), "chosen, in the colour of its topic", f"{counts[CHOSEN]:,}"),
        (_spot(NOT_CHOSEN, 12), "not chosen", f"{counts[NOT_CHOSEN]:,}"),
        (_spot(DUPLICATE, 18), "duplicate, dropped", f"{counts[DUPLICATE]:,}"),
        ({}, "", ""),
        ({}, "topics", "chosen / all"),
    ]
    for number, name in enumerate(scene.names):
        text = f"{number + 1} {_cut(name, 36)}"
        lines.append((_spot(CHOSEN, 28, number), text, f"{chosen[number]:,} / {of_topic[number]:,}"))
    step = min(0.235, MAP_HEIGHT / len(lines))
    for line, (mark, text, figure) in enumerate(lines):
        y = MAP_HEIGHT - (line + 0.5) * step
        if mark:
            axes.scatter(0.1, y, **mark)
        color = INK if mark else SOFT
        _text(axes, (0.25 if mark else 0.03, y), text, size=SMALL, color=color)
        _text(axes, (KEY_WIDTH, y), figure, size=SMALL, color=color, ha="right")


def _spot(fate: int, area: float, topic: int | None = None) -> dict[str, Any]:
    """How a record is drawn; `area` in square points."""
    if fate == NOT_CHOSEN:
        return {"s": area, "c": PALE, "linewidths": 0, "alpha": 0.7}
    if fate == DUPLICATE:
        return {"s": area, "c": SOFT, "marker": "x", "linewidths": 0.7}
    colour = INK if topic is None else COLOURS[topic % len(COLOURS)]
    shape = SHAPES[(topic or 0) // len(COLOURS) % len(SHAPES)]
    return {"s": area, "c": colour, "marker": shape, "edgecolors": "white", "linewidths": 0.08 * area**0.5}


def _area(count: int) -> float:
    """Square points for each of so many marks."""
    return min(8.0, max(1.0, 10_000 / max(1, count)))


def _text(axes: "Axes", at: Sequence[float], text: str, **look: Any) -> None:
    x, y = at
    axes.text(x, y, _clean(text), **{"color": INK, "va": "center_baseline", "parse_math": False, **look})


def _clean(text: str) -> str:
    """Without characters that XML does not allow."""
    return "".join(c for c in text if c.isprintable() or c == "\n")


def _columns(text: str) -> int:
    """Letters a text is wide; one of Hangul, Han or kana counts as two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _cut(text: str, columns: int) -> str:
    """The beginning of a text that is too wide."""
    if _columns(text) <= columns:
        return text
    while _columns(text) >= columns:
        text = text[:-1]
    return f"{text}…"
