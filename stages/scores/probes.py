"""The plan's own probes: a prompt and what its answer must hold."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from filters.final import Check as Final
from filters.format import Format
from pipeline.component import Component, PlanFile
from pipeline.records import Check, Message, Record, digest
from stages.bootstrap import Score
from stages.scores.base import Columns, Metric

PASSED = Metric("probes", "probes passed", style="share", on="probe")


class Probe(Component):
    """A prompt, and a check of its answer: `pattern`, `json_schema`, or `final` and `gold`; greedily answered."""

    prompt: Annotated[str, Field(min_length=1)]
    system: str = ""
    pattern: Annotated[str | None, Field(description="a regular expression found in the answer")] = None
    json_schema: Annotated[
        dict[str, Any] | PlanFile | None, Field(description="a JSON Schema, here or in a file, that its JSON matches")
    ] = None
    final: Annotated[
        Final | None, Field(description="how its final answer is compared with `gold`: number, choice, exact")
    ] = None
    gold: Annotated[str, Field(description="the right final answer")] = ""

    @field_validator("gold", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        """A number in a plan is the text that it is."""
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _checks(self) -> "Probe":
        if self.pattern is None and self.json_schema is None and self.final is None:
            raise ValueError("a probe checks its answer: give `pattern`, `json_schema`, or `final` and `gold`")
        if (self.final is None) != (not self.gold):
            raise ValueError("`final` and `gold` belong together")
        _ = self._format
        return self

    @cached_property
    def _format(self) -> Format:
        return Format(
            name="probe", balanced=(), pattern=self.pattern, json_schema=self.json_schema, final=self.final,
            gold_field="gold",
        )  # fmt: skip

    @property
    def id(self) -> str:
        """The same in every evaluation that asks it."""
        return digest(self.identity())

    @property
    def messages(self) -> list[Message]:
        """What every model is asked."""
        system = [Message(role="system", content=self.system)] if self.system else []
        return [*system, Message(role="user", content=self.prompt)]

    def check(self, answer: str) -> Check:
        """Whether an answer holds what it must, and why not."""
        turns = [*self.messages, Message(role="assistant", content=answer)]
        own = digest([m.content for m in turns])
        record = Record(
            id=own, task="probe", messages=turns, seeds=[own], checks=[Check(name="given")], meta={"gold": self.gold}
        )
        return self._format.judge(record)


def probed(probes: Sequence[Probe], answers: Sequence[str]) -> Columns:
    """1 or 0 a probe."""
    checks = [probe.check(answer) for probe, answer in zip(probes, answers, strict=True)]
    return {PASSED: [Score(float(check.passed)) for check in checks]} if checks else {}
