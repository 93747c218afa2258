"""What a choice is made from: the rows of the stage above, those of earlier runs, and what is known of each.

Rows stay on disk and are read again when they are needed; memory holds their ids, figures and vectors.
"""

import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import PipelineError
from pipeline.job import Job
from pipeline.records import Record
from stages.base import Rows
from stages.spaces import Space
from stages.vectors import Gathering, Keys, VectorCache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.curate import Curate

CACHE = "vectors.sqlite"  # in the run's folder


class Pool(NamedTuple):
    """The rows by ascending id; N is their number."""

    ids: list[str]
    sources: "NDArray[np.int16]"
    """(N,): 0 for the stage above, n for the nth replay"""
    scores: "NDArray[np.float64]"
    """(N,)"""
    order_values: "NDArray[np.float64]"
    """(N,), what the order of the output goes by; NaN where it was not measured"""
    chars: "NDArray[np.int64]"
    """(N,), length of the answer"""
    labels: list[str]
    keys: list[list[bytes]]
    """for each of the stage's spaces, N names of vectors"""
    place: dict[str, int]
    """from an id to its place"""
    unscored: int
    """rows without the check that `score` names"""
    read: "Reader"


class Reader:
    """All rows of all sources, again and again; a replayed row whose id the stage above has, too, is left out."""

    def __init__(self, sources: Sequence[Rows]) -> None:
        self._sources = sources

    def rows(self) -> Iterator[tuple[int, Record]]:
        """Number of the source, and the row. Raises PipelineError for an id that comes twice."""
        taken: dict[str, int] = {}
        for number, rows in enumerate(self._sources):
            for record in rows.read("kept"):
                if taken.setdefault(record.id, number) == number:
                    yield number, record


def read(settings: "Curate", sources: Sequence[Rows]) -> Pool:
    """Go through the rows once. Raises PipelineError where there are none, where two of one source have
    the same id, or where a selector misses a group."""
    import numpy as np

    reader, selectors = Reader(sources), settings.selectors()
    spaces = settings.spaces()
    names = [Keys(space) for space in spaces]
    rows: list[tuple[str, int, float, float, int, str, list[bytes]]] = []
    unscored = 0
    for source, record in reader.rows():
        score = settings.scored(record)
        unscored += score is None
        ordered = settings.order_value(record)
        label = selectors[source].label(record)
        keys = [name.of(space.of(record)) for name, space in zip(names, spaces, strict=True)]
        rows.append((record.id, source, score or 0.0, ordered, len(record.answer), label, keys))
    if not any(row[1] == 0 for row in rows):
        raise PipelineError(
            "there is nothing to curate: no record was kept before this stage",
            hint="`pipeline show PLAN filter --dropped` shows why",
        )
    for source, selector in enumerate(selectors):
        selector.require({row[5] for row in rows if row[1] == source})
    rows.sort(key=itemgetter(0))
    ids = [row[0] for row in rows]
    place = {name: n for n, name in enumerate(ids)}
    if len(place) != len(ids):
        raise PipelineError("two records have the same id; ids must be unique")
    columns = list(zip(*rows, strict=True))
    return Pool(
        ids, np.array(columns[1], np.int16), np.array(columns[2], float), np.array(columns[3], float),
        np.array(columns[4], np.int64), list(columns[5]), [list(k) for k in zip(*columns[6], strict=True)],
        place, unscored, reader,
    )  # fmt: skip


def vectors(pool: Pool, nth: int, space: Space, job: Job, target: Path) -> "NDArray[np.float32]":
    """A vector for every row (N, D) in the stage's nth space, in `target`, an `.npy` file.

    What the run remembers is not computed again; where it remembers all, the rows are not read.
    """
    started = time.monotonic()
    stored = VectorCache(job.run.path / CACHE)
    gathering = Gathering(space, stored, target, len(pool.ids))
    try:
        texts = ((pool.place[record.id], space.of(record)) for _, record in pool.read.rows())
        return gathering.fill(pool.keys[nth], texts)
    finally:
        stored.close()
        job.usage["embedded"] += gathering.encoded
        job.usage["embed_seconds"] += time.monotonic() - started
