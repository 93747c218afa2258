"""Candidates for a selector, and whom it chose."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.selectors.base import Candidates, Choice

Rows = NDArray[np.float32]


def unit(rows: Any) -> Rows:
    """Rows of length 1."""
    found = np.asarray(rows, dtype=np.float64)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def among(vectors: Rows, scores: Any = None, features: Rows | None = None) -> Candidates:
    """Candidates id0000, id0001... with these vectors; all scores 0 where none are given."""
    n = len(vectors)
    marks = np.zeros(n) if scores is None else np.asarray(scores, dtype=np.float64)
    return Candidates(
        [f"id{i:04d}" for i in range(n)], vectors, marks, [""] * n, vectors if features is None else features
    )


def ranked(choices: list[Choice]) -> list[int]:
    """Indices of the chosen, the first first."""
    return [i for _, i in sorted((c.rank, i) for i, c in enumerate(choices) if c.chosen)]
