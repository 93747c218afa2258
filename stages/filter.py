"""filter: every record passes the rules in order, or is dropped by the first that says no."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from filters import AnyFilter, presets
from filters.base import Context, Filter, SetFilter
from pipeline import console, machine
from pipeline.component import Knob
from pipeline.config import nearest
from pipeline.engines import Engine
from pipeline.job import Job
from pipeline.records import Record
from pipeline.store import Tally, VersionWriter
from stages.base import Inputs, Stage
from stages.intake import FileRows, Ids
from stages.pairs import Pairs, PairWriter
from stages.spool import Spool
from stages.workers import Passed, Sieve, sifted


class FilterStage(Stage):
    """Rules in order, cheap ones first, a judge last. Held-out records pass the same rules."""

    stage: ClassVar[str] = "filter"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("generate",),)

    quarantines: ClassVar[bool] = True

    rules: Annotated[list[AnyFilter], Field(min_length=1, description="a list, or the name of a preset")]
    measure: Annotated[
        Literal["first", "all"], Field(description="all: what one rule has dropped is measured by the rest, too")
    ] = "first"
    workers: Annotated[int | None, Knob(), Field(ge=1, description="processes; as many as cores when left out")] = None
    pairs: Annotated[Pairs | None, Field(description="write preference pairs of the answers to one prompt")] = None

    @field_validator("rules", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        """`rules: korean` is the preset of that name."""
        return presets.rules(value) if isinstance(value, str) else value

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
        """The rules that judge a record as it comes and need no model."""
        return [r for r in self.rules if not (isinstance(r, SetFilter) and (r.asking or r.whole or r.weights()))]

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The judges' engines."""
        return judges_of(self.rules, teacher)

    def models(self, teacher: Engine | None) -> list[tuple[str, str]]:
        """The judges' models, and those that rules load themselves."""
        return super().models(teacher) + [w for r in self.rules if isinstance(r, SetFilter) for w in r.weights()]

    def prepare(self, job: Job, inputs: Inputs) -> None:
        """What rules name is looked at first."""
        for rule in self.rules:
            rule.prepare()

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Rules that judge rows one by one run first to last in several processes, up to the first that cannot."""
        first = list(itertools.takewhile(lambda rule: isinstance(rule, Filter), self.rules))
        tallies = [Tally(step=rule.label) for rule in self.rules]
        read = Tally(step="read")
        pairs = PairWriter(self.pairs) if self.pairs is not None else None
        counts = [inputs.rows.count("kept"), inputs.rows.count("heldout")]
        total = sum(c for c in counts if c is not None) if None not in counts else None
        sieve = Sieve([rule for rule in first if isinstance(rule, Filter)], self.measure == "all")
        with console.Bar("filter", total) as bar:
            chunks = sifted(inputs.rows.raw(), sieve, self.workers or machine.cores(), read, tallies[: len(first)])
            rows: Iterator[Passed] = (row for chunk in chunks for row in chunk)
            if isinstance(inputs.rows, FileRows):
                rows = _named_apart(rows)
            if len(first) == len(self.rules) and pairs is None:
                for row in rows:
                    out.write_line(row.line, row.shard)
                    bar.advance()
            else:
                stream: Iterator[Record] = (Record.model_validate_json(row.line) for row in rows)
                for rule, tally in zip(self.rules[len(first) :], tallies[len(first) :], strict=True):
                    stream = apply(rule, stream, job, tally, everything=self.measure == "all")
                for record in stream:
                    out.write(record)
                    if pairs is not None:
                        pairs.see(record)
                    bar.advance()
        if read.dropped:
            console.warn(f"{sum(read.dropped.values()):,} broken lines were dropped: {', '.join(read.dropped)}")
            out.manifest.ledger.append(read)
        out.manifest.ledger += tallies
        for note in [n for rule in self.rules if isinstance(rule, SetFilter) for n in rule.notes(job.teacher)]:
            out.manifest.notes.append(note)
            console.warn(note)
        if pairs is not None:
            out.manifest.figures["pairs"] = pairs.write(out.path)


def _named_apart(rows: Iterable[Passed]) -> Iterator[Passed]:
    """Rows of a foreign file may bring the same id: the later ones get another."""
    ids = Ids()
    for row in rows:
        if (own := ids.own(row.id)) != row.id:
            record = Record.model_validate_json(row.line).model_copy(update={"id": own})
            row = Passed(record.line(), own, row.shard)
        yield row


def judges_of(rules: list[AnyFilter], teacher: Engine | None) -> list[Engine]:
    """The engines that rules ask."""
    return [engine for rule in rules if isinstance(rule, SetFilter) for engine in rule.asks(teacher)]


def apply(
    rule: AnyFilter, stream: Iterable[Record], context: Context, tally: Tally, *, everything: bool = False
) -> Iterator[Record]:
    """The stream with `rule`'s check on every record still in; dropped ones pass through in their place.

    With `everything` dropped ones are measured, too; the tally is of those still in either way.
    """
    queue: deque[Record] | Spool = Spool() if isinstance(rule, SetFilter) and rule.whole else deque()

    def shown() -> Iterator[Record]:
        for record in stream:
            queue.append(record)
            if everything or not record.dropped:
                yield record

    for check in rule.sift(shown(), context):
        while queue[0].dropped and not everything:
            yield queue.popleft()
        before = queue.popleft()
        if not before.dropped:
            tally.count(check)
        record = before.checked(check)
        yield record if record.dropped else rule.mend(record)
        while queue and queue[0].dropped and not everything:
            yield queue.popleft()
    yield from queue
