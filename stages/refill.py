"""Exactly N accepted: which rows a stage takes, and when it stops asking.

Rows are counted in the order of the seeds, remembered answers like fresh ones, so the same plan over the same answers
stops at the same row, however many were under way at once. Only `minutes` depends on the clock.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from filters import AnyFilter
from pipeline.component import Component
from pipeline.records import Record
from stages.scripts import Spent, Unit


class Budget(Component):
    """What may be spent. What is under way when a budget is reached comes on top of it."""

    requests: Annotated[int | None, Field(ge=1, description="answers asked for, tries counted")] = None
    tokens: Annotated[int | None, Field(ge=1, description="prompt and answer tokens")] = None
    cost: Annotated[float | None, Field(gt=0, description="by teacher.price")] = None
    minutes: Annotated[float | None, Field(gt=0, description="wall clock")] = None


class Count(Component):
    """How many rows to accept, by which rules, and within what budget."""

    accepted: Annotated[int, Field(ge=1, description="rows kept for training; held-out rows come on top")]
    rules: Annotated[
        list[AnyFilter] | None,
        Field(description="what accepts; else the plan's filter rules that ask no model"),
    ] = None
    budget: Annotated[Budget, Field(description="when left out, ten requests for every row wanted")] = Budget()

    def limits(self) -> Budget:
        """The budget, never without an end."""
        given = self.budget
        bare = given.requests is given.tokens is given.cost is given.minutes is None
        return Budget(requests=10 * self.accepted) if bare else given


class Meter:
    """Counts what has been spent, in order, and says when that is enough."""

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget or Budget()
        self._started = time.monotonic()
        self._spent = Spent()
        self.reached = ""

    def count(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """The units up to the first that passes a budget, that one included."""
        for unit in units:
            self._spent = self._spent.plus(unit.spent)
            yield unit
            self.reached = self._over()
            if self.reached:
                return

    def _over(self) -> str:
        budget, spent = self._budget, self._spent
        if budget.requests is not None and spent.requests >= budget.requests:
            return f"{budget.requests:,} requests"
        if budget.tokens is not None and spent.prompt_tokens + spent.completion_tokens >= budget.tokens:
            return f"{budget.tokens:,} tokens"
        if budget.cost is not None and spent.cost >= budget.cost:
            return f"a cost of {budget.cost:g}"
        if budget.minutes is not None and time.monotonic() - self._started >= budget.minutes * 60:
            return f"{budget.minutes:g} minutes"
        return ""


def until(records: Iterable[Record], accepted: int | None) -> Iterator[Record]:
    """Records up to the one that makes the wanted number of kept training rows."""
    kept = 0
    for record in records:
        yield record
        kept += not record.dropped and record.split == "train"
        if kept == accepted:
            return
