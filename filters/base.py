"""What a filter is: it measures a record and says yes or no, with a reason.

A `Filter` judges one record at a time; a `SetFilter` sees the stream (duplicates, a model's verdicts) and
gives one check per record, in order. Both measure on every record they are shown, passed or not.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal, NamedTuple, Protocol

from pydantic import Field

from pipeline.component import Component
from pipeline.engines import Answered, Engine, Request
from pipeline.records import Check, Record

Side = Literal["min", "max"]


class Measure(NamedTuple):
    """A value and the setting that bounds it, as `--set` writes it after the rule: `max_top.2`."""

    setting: str
    side: Side
    bound: float
    value: float


class Context(Protocol):
    """What a filter may ask of the run it is part of."""

    @property
    def seed(self) -> int:
        """The plan's seed."""
        ...

    def ask(self, engine: Engine | None, requests: Iterable[Request]) -> Iterator[Answered]:
        """Completions in the order of the requests; None asks the plan's teacher."""
        ...


class Rule(Component):
    """What filters of both sorts share."""

    bounds: ClassVar[tuple[tuple[str, Side], ...]] = ()
    """Settings that bound the value of its checks, and from which side."""

    name: Annotated[str, Field(description="what its checks are called; its kind when left out")] = ""

    @property
    def label(self) -> str:
        """The name its checks carry."""
        return self.name or str(getattr(self, "kind", ""))

    def prepare(self) -> None:
        """Refuse files and functions that it names and cannot use, before anything is written. Raises PipelineError."""

    def mend(self, record: Record) -> Record:
        """The record as it goes on, once it has passed: a rule may change it."""
        return record

    def bounded(self, value: float) -> Iterator[Measure]:
        """A check's value beside each bound of `bounds` that is set."""
        for setting, side in self.bounds:
            if (bound := getattr(self, setting)) is not None:
                yield Measure(setting, side, float(bound), value)

    def measures(self, record: Record) -> Iterator[Measure]:
        """Every value of a checked record that a setting bounds, each by itself: what `filter --explain` shows."""
        if (value := record.scored(self.label)) is not None:
            yield from self.bounded(value)

    def yes(self, value: float, detail: str = "") -> Check:
        """A passed check."""
        return Check(name=self.label, value=value, detail=detail)

    def no(self, value: float, reason: str, detail: str = "") -> Check:
        """A failed check; `reason` is a snake_case slug."""
        return Check(name=self.label, value=value, passed=False, reason=reason, detail=detail)


class Filter(Rule):
    """Judges each record by itself."""

    @abstractmethod
    def judge(self, record: Record) -> Check:
        """What was measured, and whether it passes."""

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One check per record, in order."""
        yield from map(self.judge, records)


class TextFilter(Filter):
    """Judges one text at a time: the answer, the prompt, or each of both."""

    on: Annotated[Literal["answer", "prompt", "both"], Field(description="which text it reads")] = "answer"

    @abstractmethod
    def measure(self, text: str) -> Check:
        """What was measured on a text, and whether it passes."""

    def judge(self, record: Record) -> Check:
        """The check of the text; of both, the first that fails, or the answer's."""
        if self.on != "answer":
            check = self.measure(record.prompt)
            if self.on == "prompt":
                return check
            if not check.passed:
                return check.model_copy(update={"detail": f"the prompt: {check.detail}".rstrip(": ")})
        return self.measure(record.answer)

    def measured(self, text: str) -> Iterator[Measure]:
        """The values of a text that settings other than those of `bounds` bound; no verdict needs them all."""
        return iter(())

    def measures(self, record: Record) -> Iterator[Measure]:
        """The check's value and what `measured` finds; where both texts are read the worse value of each setting."""
        if self.on != "both":
            yield from super().measures(record)
            yield from self.measured(record.prompt if self.on == "prompt" else record.answer)
            return
        worst: dict[str, Measure] = {}
        for text in (record.prompt, record.answer):
            for one in (*self.bounded(self.measure(text).value), *self.measured(text)):
                known = worst.setdefault(one.setting, one)
                if one.value < known.value if one.side == "min" else one.value > known.value:
                    worst[one.setting] = one
        yield from worst.values()


class SetFilter(Rule):
    """Needs to see more than one record, or a model."""

    asking: ClassVar[bool] = False
    """Whether it asks a model."""

    @property
    def whole(self) -> bool:
        """Whether the first check comes after the last record."""
        return False

    def weights(self) -> list[tuple[str, str]]:
        """Names and revisions of the models this filter loads itself."""
        return []

    @abstractmethod
    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One check per record, in order; may read ahead."""

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The engines this filter asks."""
        return []

    def notes(self, teacher: Engine | None) -> list[str]:
        """What a user should know before trusting it."""
        return []
