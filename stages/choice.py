"""Who is chosen of a pool: near-duplicates go, every source gives its part, and each row learns its nearest chosen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipeline import console
from pipeline.errors import PipelineError
from pipeline.records import Check
from pipeline.store import Tally
from stages.duplicates import Duplicate, duplicates
from stages.pool import Pool
from stages.selectors.base import Candidates, Choice, Selector
from stages.vectors import usable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS, COLUMNS = 1024, 16_384  # of a product of vectors with vectors of the chosen


class Compared(NamedTuple):
    """A pool with its vectors, before anyone is chosen."""

    pool: Pool
    vectors: "NDArray[np.float32]"
    """(N, D), of unit length where `usable`"""
    features: "NDArray[np.float32]"
    """(N, F), what the selector compares by"""
    usable: "NDArray[np.bool_]"
    """(N,)"""
    duplicates: dict[int, Duplicate]

    @property
    def free(self) -> "NDArray[np.int64]":
        """Places of the rows to choose from, ascending."""
        import numpy as np

        free = self.usable.copy()
        free[list(self.duplicates)] = False
        return np.flatnonzero(free)


class Chosen(NamedTuple):
    """What became of every row of a pool."""

    choices: dict[int, Choice]
    """by place; rows without a vector and near-duplicates have none"""
    nearest: "NDArray[np.int64]"
    """(N,): the nearest chosen row, of a chosen one the nearest other; -1 where there is none"""
    cosines: "NDArray[np.float32]"
    """(N,): and how near that is"""

    @property
    def places(self) -> list[int]:
        """Places of the chosen, ascending."""
        return sorted(place for place, choice in self.choices.items() if choice.chosen)

    def ranks(self, places: list[int]) -> list[int]:
        """When each of these was chosen; 0 for who was not."""
        return [self.choices[place].rank if place in self.choices else 0 for place in places]


def compare(
    pool: Pool, vectors: "NDArray[np.float32]", features: "NDArray[np.float32]", min_cosine: float | None
) -> Compared:
    """Find rows without a vector, and near-duplicates among the others."""
    import numpy as np

    can = usable(vectors) & usable(features)
    if not can.any():
        raise PipelineError("the embedding model gave no finite vector for any row", hint="take another embed.model")
    if min_cosine is None:
        return Compared(pool, vectors, features, can, {})
    places = np.flatnonzero(can)
    found = duplicates(vectors, pool.scores, min_cosine, places)
    return Compared(pool, vectors, features, can, found)


def choose(compared: Compared, selectors: list[Selector], budgets: list[int], seed: int) -> Chosen:
    """Let every source's selector choose its part. What replays cannot fill goes to the stage above."""
    import numpy as np

    free, sources = compared.free, compared.pool.sources
    choices: dict[int, Choice] = {}
    budgets, ranked = list(budgets), 0
    for number in [*range(1, len(selectors)), 0]:  # the stage above last: it takes what is left over
        mine = free[sources[free] == number]
        part = min(budgets[number], len(mine))
        budgets[0] += budgets[number] - part if number else 0
        if part == 0:
            choices |= {int(i): Choice(0, "no_budget") for i in mine}
            continue
        picked = selectors[number].pick(_candidates(compared, mine), part, seed)
        choices |= {
            int(i): c._replace(rank=c.rank + ranked) if c.chosen else c for i, c in zip(mine, picked, strict=True)
        }
        ranked += part
    places = np.array(sorted(i for i, c in choices.items() if c.chosen), np.int64)
    return Chosen(choices, *nearest(compared.vectors, compared.usable, places))


def _candidates(compared: Compared, places: "NDArray[np.int64]") -> Candidates:
    pool = compared.pool
    whole = len(places) == len(pool.ids)  # then no copy is made of what lies in a file
    return Candidates(
        [pool.ids[i] for i in places],
        compared.vectors if whole else compared.vectors[places],
        pool.scores[places],
        [pool.labels[i] for i in places],
        compared.features if whole else compared.features[places],
    )


def nearest(
    vectors: "NDArray[np.float32]", can: "NDArray[np.bool_]", places: "NDArray[np.int64]"
) -> "tuple[NDArray[np.int64], NDArray[np.float32]]":
    """For every row the nearest of `places` other than itself, and the cosine; -1 and 0 where there is none."""
    import numpy as np

    found, cosines = np.full(len(vectors), -1, np.int64), np.zeros(len(vectors), np.float32)
    best = np.full(len(vectors), -np.inf, np.float32)
    for start in range(0, len(places), COLUMNS):
        columns = places[start : start + COLUMNS]
        theirs = np.asarray(vectors[columns])
        for first in range(0, len(vectors), ROWS):
            rows = np.arange(first, min(first + ROWS, len(vectors)))
            products = np.nan_to_num(vectors[rows]) @ theirs.T
            products[rows[:, None] == columns] = -np.inf
            at = products.argmax(1)
            here = products[np.arange(len(rows)), at]
            closer = (here > best[rows]) & can[rows]
            best[rows[closer]], found[rows[closer]] = here[closer], columns[at[closer]]
    cosines[found >= 0] = best[found >= 0]
    return found, cosines


def fate(compared: Compared, chosen: Chosen, place: int, selectors: Sequence[Selector]) -> list[Check]:
    """What a row is told: no vector, a duplicate of whom; or whom it is near to, and whether it was chosen."""
    ids = compared.pool.ids
    if not compared.usable[place]:
        return [Check(name="embed", passed=False, reason="no_vector", detail="the model gave nothing to compare")]
    if duplicate := compared.duplicates.get(place):
        said = f"{ids[duplicate.keeper]}, cosine {duplicate.cosine:.3f}"
        return [Check(name="dedup", value=round(duplicate.cosine, 4), passed=False, reason="duplicate_of", detail=said)]
    picked = chosen.choices[place]
    near = int(chosen.nearest[place])
    checks = [] if near < 0 else [Check(name="nearest", value=round(float(chosen.cosines[place]), 4), detail=ids[near])]
    name = kind(selectors[int(compared.pool.sources[place])])
    checks.append(Check(name=name, value=picked.rank, passed=picked.chosen, reason=picked.reason, detail=picked.detail))
    return checks


def ledger(compared: Compared, chosen: Chosen, selectors: Sequence[Selector]) -> list[Tally]:
    """Every step: rows without a vector where there are some, near-duplicates, then each source's choice."""
    import numpy as np

    rows, lost = len(compared.usable), int((~compared.usable).sum())
    steps = [Tally(step="embed", came=rows, kept=rows - lost, dropped={"no_vector": lost})] if lost else []
    if same := len(compared.duplicates):
        steps.append(Tally(step="dedup", came=rows - lost, kept=rows - lost - same, dropped={"duplicate_of": same}))
    for number, selector in enumerate(selectors):
        step = kind(selector) if number == 0 else f"replay {number}: {kind(selector)}"
        tally = Tally(step=step)
        for place in np.flatnonzero(compared.pool.sources == number).tolist():
            if (picked := chosen.choices.get(place)) is not None:
                tally.count(Check(name=step, passed=picked.chosen, reason=picked.reason))
        steps.append(tally)
    return steps


def kind(selector: Selector) -> str:
    """What a selector's checks are called."""
    return str(selector.kind)  # type: ignore[attr-defined]  # each has one


def short(chosen: Chosen, wanted: int, compared: Compared) -> str:
    """A notice where fewer were kept than wanted; or nothing."""
    kept = len(chosen.places)
    if kept >= wanted:
        return ""
    lost = f", {len(compared.duplicates):,} near-duplicates left out" if compared.duplicates else ""
    note = f"kept all {kept:,} there were to choose from, fewer than the {wanted:,} wanted{lost}"
    console.warn(note)
    return note
