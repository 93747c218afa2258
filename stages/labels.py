"""Where names stand on a map: near what they name, apart from each other, and over few marks."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Places = NDArray[np.float64]

HEIGHT = 0.18  # of a box, inches
GAP = 0.03  # between two boxes at least
STEPS, STEP = 60, 0.06  # circles about an anchor that are tried, and what one adds to the radius
TURNS = 24  # places on a circle
COVERING = 0.12  # inches a box moves to cover one mark less
MARKS = 1_000  # looked at


def place(anchors: "Places", widths: Sequence[float], marks: "Places", room: tuple[float, float]) -> "Places":
    """Middles of boxes of the given widths for K anchors (K, 2), all within the room; all in inches.

    A box takes the place of the least cost of those that no earlier box takes: its distance from the anchor and the
    marks (P, 2) it covers. Where every place is taken it stands on the others.
    """
    import numpy as np

    radius = np.repeat(np.arange(STEPS) * STEP, TURNS)
    angle = np.tile(np.arange(TURNS) * math.tau / TURNS, STEPS)
    around = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    marks = marks[:: max(1, math.ceil(len(marks) / MARKS))]
    found = np.zeros((0, 2))
    sizes = np.column_stack([widths, np.full(len(widths), HEIGHT)])
    for anchor, size in zip(anchors, sizes, strict=True):
        tried = np.clip(anchor + around, size / 2, room - size / 2)
        covered = _within(tried, marks, size / 2).sum(axis=1)
        taken = _within(tried, found, (size + sizes[: len(found)]) / 2 + GAP).any(axis=1)
        cost = np.hypot(*(tried - anchor).T) + COVERING * covered + np.where(taken, 1e3, 0)
        found = np.vstack([found, tried[cost.argmin()]])
    return np.round(found, 3)


def _within(middles: "Places", others: "Places", half: "Places") -> "NDArray[np.bool_]":
    """(A, B) whether two points are nearer than `half` across and along."""
    import numpy as np

    across, along = np.moveaxis(np.abs(middles[:, None] - others) < half, 2, 0)
    near: NDArray[np.bool_] = across & along
    return near
