"""filter: every record passes the rules in order, or is dropped by the first that says no."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from filters import AnyFilter
from filters.base import Context, Filter, SetFilter
from pipeline import console
from pipeline.config import nearest
from pipeline.engines import Engine
from pipeline.job import Job
from pipeline.records import Check, Record
from pipeline.store import Tally, VersionWriter
from stages.base import Inputs, Stage
from stages.pairs import Pairs, PairWriter


class FilterStage(Stage):
    """Rules in order, cheap ones first, a judge last. Held-out records pass the same rules."""

    stage: ClassVar[str] = "filter"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("generate",),)

    rules: Annotated[list[AnyFilter], Field(min_length=1)]
    pairs: Annotated[Pairs | None, Field(description="write preference pairs of the answers to one prompt")] = None

    @model_validator(mode="after")
    def _labels_differ(self) -> "FilterStage":
        labels = [rule.label for rule in self.rules]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two rules are called {label!r}: give one a `name`")
        if self.pairs is not None and self.pairs.by not in labels:
            raise ValueError(f"pairs.by is {self.pairs.by!r}, which no rule is called{nearest(self.pairs.by, labels)}")
        return self

    def free(self) -> list[AnyFilter]:
        """The rules that ask no model."""
        return [r for r in self.rules if not (isinstance(r, SetFilter) and r.asks())]

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The judges' engines."""
        finders = [find for r in self.rules if isinstance(r, SetFilter) and (find := r.asks())]
        return [engine for find in finders if (engine := find(teacher)) is not None]

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Stream the records through the rules; the ledger counts each rule's own."""
        rows = inputs.rows
        stream: Iterator[Record] = chain(rows.read("kept"), rows.read("heldout"))
        counts = [rows.count("kept"), rows.count("heldout")]
        total = sum(c for c in counts if c is not None) if None not in counts else None
        for rule in self.rules:
            tally = Tally(step=rule.label)
            out.manifest.ledger.append(tally)
            stream = apply(rule, stream, job, tally)
        pairs = PairWriter(self.pairs) if self.pairs is not None else None
        with console.Bar("filter", total) as bar:
            for record in stream:
                out.write(record)
                if pairs is not None:
                    pairs.see(record)
                bar.advance()
        if pairs is not None:
            out.manifest.figures["pairs"] = pairs.write(out.path)


def apply(rule: AnyFilter, stream: Iterable[Record], context: Context, tally: Tally) -> Iterator[Record]:
    """The stream with `rule`'s check on every record still in; dropped ones pass through in their place."""
    queue: deque[Record] = deque()

    def alive() -> Iterator[Record]:
        for record in stream:
            queue.append(record)
            if not record.dropped:
                tally.came += 1
                yield record

    for check in rule.sift(alive(), context):
        while queue[0].dropped:
            yield queue.popleft()
        _count(tally, check)
        record = queue.popleft().checked(check)
        yield rule.mend(record) if check.passed and isinstance(rule, Filter) and rule.mends else record
        while queue and queue[0].dropped:
            yield queue.popleft()
    yield from queue


def _count(tally: Tally, check: Check) -> None:
    if check.passed:
        tally.kept += 1
    else:
        tally.dropped[check.reason] = tally.dropped.get(check.reason, 0) + 1
