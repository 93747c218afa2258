"""The picture of an ablation: every contrast by every metric, verdicts told apart, and no number that breaks it."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.ablation import picture
from stages.ablation.picture import svg
from stages.bootstrap import Interval
from stages.scores.base import Metric
from tests.stages import ablated

ROOT = Path(__file__).resolve().parents[2]
SPACE = "{http://www.w3.org/2000/svg}"
INF = float("inf")


class Text:
    """A text element: what it says, where it begins, and how wide it is at least, in points."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.said = "".join(element.itertext()).strip()
        style = element.get("style", "")
        self.x, self.y = float(element.attrib["x"]), float(element.attrib["y"])
        (size,) = re.findall(r"font-size: ([\d.]+)px", style)
        (anchor,) = re.findall(r"text-anchor: (\w+)", style)
        self.width = float(size) * sum(1.0 if ord(c) > 0x1100 else 0.45 for c in self.said)
        self.x -= self.width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]


class Drawn:
    """A picture, read again."""

    def __init__(self, drawn: bytes) -> None:
        root = ElementTree.fromstring(drawn)
        self.width, self.height = (float(root.attrib[name].removesuffix("pt")) for name in ("width", "height"))
        self.texts = [Text(element) for element in root.iter(f"{SPACE}text")]
        self.said = [text.said for text in self.texts]
        self.fills = [style for e in root.iter(f"{SPACE}use") if (style := e.get("style", ""))]

    def at(self, said: str) -> Text:
        (found,) = (text for text in self.texts if text.said == said)
        return found


def draw(figures: dict[str, Any] | None = None, title: str = "stories") -> Drawn:
    return Drawn(svg(ablated.figures() if figures is None else figures, title))


def of(*found: Interval | None, metric: Metric = ablated.CHRF) -> dict[str, Any]:
    """Figures of one metric with these differences."""
    pairs = [(f"v{n}", "curated", f"v{n}") for n in range(len(found))]
    rows = [ablated.contrast(pair, metric, one) for pair, one in zip(pairs, found, strict=True)]
    return ablated.figures() | {"contrasts": rows}


def test_it_says_what_it_shows() -> None:
    """Title, what was trained, every contrast with its arms, every metric that differs somewhere, as text."""
    drawn = draw(title="동화")
    assert {"What each choice brought: 동화", "filtering", "filtered against random", ablated.STRICT,
            f"{ablated.STRICT} against filtered", "fewer rows", "perplexity", "chrF", "judge score", "ratio", "points",
            "better", "worse", "no difference shown", "no interval"} <= set(drawn.said)  # fmt: skip
    assert "2 students of each arm, 37,584 tokens each, measured on 19 held-out prompts" in drawn.said
    assert "language kept" not in drawn.said and "Not drawn: language kept." in drawn.said
    assert drawn.said.count("filtering") == 1 and "characters" not in " ".join(drawn.said)


def test_better_lies_where_the_words_say() -> None:
    """To the left for a perplexity, to the right for a score; the line of no difference is 1 for the ratio."""
    drawn = draw(of(Interval(0.8, 0.7, 0.9, 9), metric=ablated.PERPLEXITY))
    assert "← better" in drawn.said and "better →" not in drawn.said and "1" in drawn.said and "0" not in drawn.said
    drawn = draw(of(Interval(0.8, 0.7, 0.9, 9), metric=ablated.SCORE))
    assert "better →" in drawn.said and "← better" not in drawn.said and "0" in drawn.said


@pytest.mark.parametrize(
    ("found", "word", "colour", "shape"),
    [
        (Interval(0.8, 0.7, 0.9, 9), "better", "#009e73", "o"),
        (Interval(1.3, 1.2, 1.4, 9), "worse", "#d55e00", "s"),
        (Interval(1.1, 0.9, 1.4, 9), "no difference shown", "#666666", "D"),
        (Interval(1.1, None, None, 1), "no interval", "#ffffff", "o"),
    ],
)
def test_verdicts_have_a_colour_and_a_shape(found: Interval, word: str, colour: str, shape: str) -> None:
    """Of four marks no two look alike, in the key and in the panel; what has no interval is open."""
    figures = of(found, metric=ablated.PERPLEXITY)
    drawn = draw(figures)
    assert len([fill for fill in drawn.fills if f"fill: {colour}" in fill]) == 2  # in the key, and in its row
    assert [said for said in (*picture.LOOKS, picture.OPEN) if said in drawn.said] == [word]
    assert picture._look(word)["marker"] == shape
    assert len({(look["marker"], look["c"]) for look in map(picture._look, (*picture.LOOKS, picture.OPEN))}) == 4


def test_what_is_not_known_is_said() -> None:
    """A difference that was lost is `undefined`, a contrast without the metric is left blank."""
    figures = of(Interval(0.1, 0.0, 0.2, 9), Interval(0.2, 0.1, 0.3, 9))
    figures["contrasts"][0]["difference"]["value"] = None
    assert draw(figures).said.count("undefined") == 1
    figures["contrasts"][0]["difference"] = {"value": 0.1, "low": float("nan"), "high": 0.2}
    assert picture.spot(figures["contrasts"][0]) == (0.1, None, None, "no difference shown")
    other = ablated.contrast(("w", "curated", "w"), ablated.SCORE, Interval(0.1, 0.0, 0.2, 9))
    figures["contrasts"] = [*figures["contrasts"][1:], other]
    assert "undefined" not in draw(figures).said


NUMBERS = st.none() | st.floats() | st.integers(-3, 3) | st.sampled_from([1e300, -1e300, 5e-324, INF, -INF])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=3),
    st.sampled_from([ablated.PERPLEXITY, ablated.CHRF, ablated.SCORE]),
)
@example([(1e99, -1e99, 1e99), (1e-99, 0.0, INF)], ablated.PERPLEXITY)
@example([(1e99, -1e99, 1e99), (0.0, 0.0, 0.0)], ablated.SCORE)
@example([(1.0, 1e-99, INF)], ablated.PERPLEXITY)
@example([(0.0, None, None)], ablated.CHRF)
@pytest.mark.filterwarnings("error")
def test_no_number_breaks_it(found: list[tuple[Any, Any, Any]], metric: Metric) -> None:
    """Whatever the manifest has; marks stay inside the sheet."""
    figures = of(*(Interval(0.0, 0.0, 0.0) for _ in found), metric=metric)
    for row, numbers in zip(figures["contrasts"], found, strict=True):
        row["difference"] = dict(zip(("value", "low", "high"), numbers, strict=True))
    drawn = svg(figures, "stories")
    read = Drawn(drawn)
    assert not re.search(rb"\b(nan|inf)\b", re.sub(rb"<text.*?</text>", b"", drawn, flags=re.DOTALL))
    for mark in re.findall(rb'<use [^>]*x="([-\d.e]+)" y="([-\d.e]+)"', drawn):
        assert 0 <= float(mark[0]) <= read.width and 0 <= float(mark[1]) <= read.height


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [0, 1, 40])
def test_all_texts_are_inside(count: int) -> None:
    """From no contrast to forty, with names of hundred letters, Korean ones too: nothing leaves the sheet, rows do not
    touch, and names end before the panels begin."""
    long = ["W" * 100, "아주긴이름" * 20, "a " * 50, "<b>&$x_1$"]
    pairs = [(f"{long[n % 4]}{n}", "curated" * 9, f"{n} {long[n % 4]}") for n in range(count)]
    drawn = draw(ablated.figures(pairs=pairs), title=long[1])
    for text in drawn.texts:
        assert 0 <= text.x <= drawn.width - text.width and 0 < text.y < drawn.height, text.said
    names = [text for text in drawn.texts if re.match(r"\d+ (W|아|a|<)", text.said)]
    assert len(names) == count
    if count:
        panel = drawn.at("perplexity").x
        assert all(text.x + text.width < panel for text in names)
        lines = sorted({round(text.y) for text in names})
        assert all(below - above > 20 for above, below in pairwise(lines))


def test_metrics_wrap_and_are_six_at_most() -> None:
    """Four stand abreast, five in two lines; what there is no room for is named."""
    metrics = [Metric(f"m{n}", f"metric {n}") for n in range(8)]

    def lines(count: int) -> list[int]:
        rows = [ablated.contrast(ablated.PAIRS[0], m, Interval(0.1, 0.0, 0.2, 9)) for m in metrics[:count]]
        drawn = draw(ablated.figures() | {"contrasts": rows})
        heights = [text.y for text in drawn.texts if text.said.startswith("metric ")]
        assert ("Not drawn: metric 6, metric 7." in drawn.said) == (count == 8)
        return [heights.count(y) for y in dict.fromkeys(heights)]

    assert [lines(n) for n in (1, 4, 5, 6, 8)] == [[1], [4], [3, 2], [3, 3], [3, 3]]


def test_a_very_long_interval_does_not_hide_the_others() -> None:
    """It is cut, with an arrow; the others keep their length."""
    usual = [Interval(v, v - 0.02, v + 0.02, 9) for v in (0.01, 0.03, -0.02, 0.02)]
    low, high = picture.ends(s for n in usual if (s := picture.spot(of(n)["contrasts"][0])))
    wild = [*usual, Interval(0.02, -50.0, 50.0, 9)]
    found = [s for n in wild if (s := picture.spot(of(n)["contrasts"][0]))]
    assert found[-1].high == 50 and picture.ends(found)[1] < 5 * high and picture.ends(found)[0] > 8 * low
    everything = [s for s in found[:-1] if s.low is not None and s.high is not None]
    assert all(low <= s.low and s.high <= high for s in everything if s.low is not None and s.high is not None)


@pytest.mark.filterwarnings("error")
def test_text_is_never_markup() -> None:
    """Tags, formulas and control characters of a name stay what they are, or go."""
    pairs = [("<script>alert(1)</script>", "$x_1$", "a & b\x07"), ("$\\frac{", "\u202eb", "]]>")]
    drawn = svg(ablated.figures(pairs=pairs), "<b>$5 & more\x00")
    assert b"<script" not in drawn and b"<b>" not in drawn
    said = Drawn(drawn).said
    assert {"What each choice brought: <b>$5 & more", "a & b", "<script>alert(1)</script> against $x_1$", "]]>"} <= set(
        said
    )
    assert not re.search(rb'href="(?!#)', drawn)


def test_the_same_bytes_again() -> None:
    """In this process and in another one, without a window system; settings of matplotlib stay as they were."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    code = (
        "import sys; from tests.stages import ablated; from stages.ablation.picture import svg; "
        "sys.stdout.buffer.write(svg(ablated.figures(), '동화')); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == svg(ablated.figures(), "동화") == svg(ablated.figures(), "동화")
    assert b"dc:date" not in done.stdout
    assert dict(matplotlib.rcParams) == before
