"""Which of several records that say the same is kept."""

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.errors import UsageError
from pipeline.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

On = Literal["answer", "prompt", "both"]
Keep = Annotated[str, Field(min_length=1, description="which one stays: first, longest, or best by the check so named")]


def texts_of(record: Record, on: On) -> list[str]:
    """The texts a rule compares."""
    return [text for name, text in (("prompt", record.prompt), ("answer", record.answer)) if on in ("both", name)]


class Ranked:
    """Ids and ranks of the records seen: what choosing among them needs."""

    def __init__(self, keep: str, on: On, rule: str) -> None:
        self._keep, self._on, self._rule = keep, on, rule
        self.ids: list[str] = []
        self._ranks = array("d")
        self._live = array("b")
        self._measured = False

    def seen(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records again, each noted as it passes."""
        for record in records:
            self.ids.append(record.id)
            self._ranks.append(self._rank(record))
            self._live.append(not record.dropped)
            yield record

    def _rank(self, record: Record) -> float:
        if self._keep == "first":
            return 0.0
        if self._keep == "longest":
            return float(sum(map(len, texts_of(record, self._on))))
        score = record.scored(self._keep)
        self._measured |= score is not None
        return float("-inf") if score is None else score

    @property
    def live(self) -> "NDArray[np.bool_]":
        """[N] which of them no earlier rule has dropped: only those may stand for others."""
        import numpy as np

        return np.array(self._live, bool)

    def best(self, groups: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """[N] the best of each record's group: a live one before a dropped one, of equals the first.

        Raises UsageError where no record has the check that is to decide.
        """
        import numpy as np

        if self.ids and self._keep not in ("first", "longest") and not self._measured:
            raise UsageError(
                f"{self._rule}.keep is {self._keep!r}, and no record has a check of that name",
                hint="first, longest, or the name of a rule that stands before this one",
            )
        order = np.lexsort((np.arange(len(groups)), -np.array(self._ranks), ~self.live, groups))
        first = np.ones(len(order), bool)
        first[1:] = groups[order][1:] != groups[order][:-1]
        best = np.empty(len(order), np.int64)
        best[order] = np.repeat(order[first], np.diff(np.append(np.flatnonzero(first), len(order))))
        return best
