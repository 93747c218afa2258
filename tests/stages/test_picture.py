"""The map: well-formed SVG of any set, the same bytes again, text that is text, and names that do not overlap."""

import base64
import io
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import picture
from stages.labels import GAP, HEIGHT, place
from stages.picture import CHOSEN, DUPLICATE, NOT_CHOSEN, Scene, svg

ROOT = Path(__file__).resolve().parents[2]


def scene(n: int = 60, *, names: list[str] | None = None, title: str = "stories", dimensions: int = 5) -> Scene:
    """N records about as many centres as there are names; every third chosen, every seventh a duplicate."""
    names = ["sun, moon, star", "rice, fry, boil"] if names is None else names
    source = np.random.default_rng(0)
    topics = np.arange(n) % len(names)
    vectors = 2 * source.normal(size=(len(names), dimensions))[topics] + source.normal(size=(n, dimensions))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fates = np.where(np.arange(n) % 3 == 0, CHOSEN, NOT_CHOSEN).astype(np.int8)
    fates[6::7] = DUPLICATE
    return Scene(title, vectors.astype(np.float32), fates, topics, names)


def texts(drawn: bytes) -> list[str]:
    """All text elements, which also says that the file is well-formed."""
    root = ElementTree.fromstring(drawn)
    return ["".join(e.itertext()).strip() for e in root.iter("{http://www.w3.org/2000/svg}text")]


def test_it_says_what_it_shows() -> None:
    """Title, counts, variance, every topic with its counts, and the short names on the map, as text."""
    shown = scene(names=["sun, moon, star", "학교, 선생님, 수업"])
    said = texts(svg(shown, 0))
    chosen, duplicates = (int(np.sum(shown.fates == fate)) for fate in (CHOSEN, DUPLICATE))
    assert "stories" in said
    assert f"{chosen} of 60 records chosen, {duplicates} dropped as duplicates" in said
    assert {"1 sun", "2 학교", "1 sun, moon, star", "2 학교, 선생님, 수업"} <= set(said)
    first = int(np.sum((shown.fates == CHOSEN) & (shown.topics == 0)))
    assert f"{first} / 30" in said
    caption = " ".join(said)
    values = np.linalg.eigvalsh(np.cov(shown.vectors.T))[::-1]
    for value in values[:2]:
        assert f"{100 * value / values.sum():.1f} %" in caption
    assert "Drawn are" not in caption


def test_the_same_bytes_again() -> None:
    """In this process and in another one."""
    code = (
        "import sys; from tests.stages.test_picture import scene, svg; "
        "sys.stdout.buffer.write(svg(scene(), 0)); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == svg(scene(), 0) == svg(scene(), 0)


def test_nothing_outside_changes() -> None:
    """Settings of matplotlib are as they were."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    svg(scene(), 0)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.filterwarnings("error")
def test_text_is_never_markup() -> None:
    """Tags, entities, formulas and control characters of a name stay what they are, or go."""
    names = ["<script>alert(1)</script>, b", "$x_1$, a & b", "$\\frac{, 학교", "bell\x07, tab"]
    drawn = svg(scene(names=names, title="<b>$5 & more\x00"), 0)
    assert b"<script" not in drawn and b"<b>" not in drawn
    said = texts(drawn)
    assert {"<b>$5 & more", "1 <script>alert(1)</script>, b", "2 $x_1$, a & b", "2 $x_1$", "4 bell"} <= set(said)
    assert not re.search(rb'href="(?!#|data:image/png;base64)', drawn)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_the_smallest_sets_have_a_map(n: int, dimensions: int) -> None:
    """One record, fewer than two axes, no record left out."""
    shown = scene(n, names=["all of them"], dimensions=dimensions)
    assert "1 all of them" in texts(svg(shown, 0))
    everyone = shown._replace(fates=np.full(n, CHOSEN, np.int8))
    assert f"{n} of {n} records chosen, 0 dropped as duplicates" in texts(svg(everyone, 0))


@pytest.mark.filterwarnings("error")
def test_identical_records_have_a_map() -> None:
    """All in one place, and axes that hold nothing."""
    shown = scene(20)
    same = shown._replace(vectors=np.repeat(shown.vectors[:1], 20, axis=0), topics=np.zeros(20, int), names=["same"])
    assert "0.0 % and 0.0 %" in " ".join(texts(svg(same, 0)))


def test_more_topics_than_looks_and_long_names() -> None:
    """Thirty topics are all listed; a name too long for its place is cut."""
    names = [f"word{i}, {'very' * 20}" for i in range(30)]
    said = texts(svg(scene(300, names=names), 0))
    assert all(any(line.startswith(f"{i + 1} word{i}, very") for line in said) for i in range(30))
    assert max(len(line) for line in said if line.startswith("30 ")) < 45


def test_topics_with_the_same_first_term_are_told_apart() -> None:
    """On the map the larger one has it, the other its next."""
    said = texts(svg(scene(names=["sun, moon", "sun, star", "sun, moon"]), 0))
    assert {"1 sun", "2 star", "3 moon"} <= set(said)


def test_many_records_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are images; where not all are drawn the caption says how many, and the chosen come first."""
    monkeypatch.setattr(picture, "DRAWN", 2000)
    shown = scene(20_000, names=[f"t{i}" for i in range(24)])
    drawn = svg(shown, 0)
    assert "Drawn are 1,000 chosen ones and 1,000 others, taken at random." in " ".join(texts(drawn))
    assert b"data:image/png;base64" in drawn and len(drawn) < 1_500_000
    assert drawn.count(b"<use ") < 500
    fates = np.where(np.arange(20_000) < 300, CHOSEN, NOT_CHOSEN).astype(np.int8)
    assert "Drawn are 300 chosen ones and 1,700 others" in " ".join(texts(svg(shown._replace(fates=fates), 0)))


def test_marks_differ() -> None:
    """Who was not chosen is pale, who was has a colour, and a duplicate is a cross."""
    from matplotlib.image import imread

    def colours(fate: int) -> set[tuple[int, ...]]:
        drawn = svg(scene(40, names=["one"])._replace(fates=np.full(40, fate, np.int8)), 0)
        images = re.findall(rb"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", drawn)
        pixels = np.concatenate([imread(io.BytesIO(base64.b64decode(i))).reshape(-1, 4) for i in images])
        return {tuple(p) for p in (pixels[pixels[:, 3] > 0.6, :3] * 255).astype(int).tolist()}

    assert any(max(c) - min(c) > 80 for c in colours(CHOSEN))
    assert all(max(c) - min(c) < 10 for c in colours(NOT_CHOSEN) | colours(DUPLICATE))


def apart(boxes: np.ndarray, widths: list[float]) -> bool:
    """Whether no two boxes overlap."""
    return not any(
        abs(boxes[i][0] - boxes[j][0]) < (widths[i] + widths[j]) / 2 + GAP - 0.002
        and abs(boxes[i][1] - boxes[j][1]) < HEIGHT + GAP - 0.002
        for i in range(len(boxes))
        for j in range(i)
    )


@given(st.integers(1, 24), st.booleans(), st.integers(0, 99))
def test_labels_do_not_overlap(count: int, same: bool, seed: int) -> None:
    """Two dozen fit the map without touching, though all name the same place; all are inside."""
    source = np.random.default_rng(seed)
    anchors = np.tile([4.0, 3.0], (count, 1)) if same else source.uniform(0, 6.3, (count, 2))
    widths = source.uniform(0.3, 1.5, count).tolist()
    boxes = place(anchors, widths, source.uniform(0, 6, (50, 2)), (8.0, 6.3))
    assert apart(boxes, widths)
    half = np.column_stack([widths, np.full(count, HEIGHT)]) / 2
    assert (boxes >= half - 0.001).all() and (boxes <= np.array([8.0, 6.3]) - half + 0.001).all()


def test_labels_stand_beside_the_marks() -> None:
    """With nothing around a label is on its anchor; with marks there it moves, but not far."""
    anchor = np.array([[4.0, 3.0]])
    assert place(anchor, [1.0], np.zeros((0, 2)), (8.0, 6.3)).tolist() == [[4.0, 3.0]]
    crowd = np.array([4.0, 3.0]) + np.random.default_rng(0).uniform(-0.2, 0.2, (40, 2))
    (moved,) = place(anchor, [1.0], crowd, (8.0, 6.3))
    inside = (np.abs(crowd - moved) < (0.5, HEIGHT / 2)).all(axis=1)
    assert inside.sum() <= 2 and np.hypot(*(moved - anchor[0])) < 1


def test_labels_without_room_still_stand() -> None:
    """More than fit: nothing fails, and the three that fit have places of their own."""
    boxes = place(np.tile([0.5, 0.5], (50, 1)), [0.9] * 50, np.zeros((0, 2)), (1.0, 1.0))
    assert boxes.shape == (50, 2) and apart(boxes[:3], [0.9] * 3)
