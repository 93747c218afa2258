"""Several answers to one prompt, to be told apart by a judge: what `filter.pairs` makes preference pairs of.

Best of n against worst of n from one or several models, as in UltraFeedback (Cui et al. 2023, arXiv 2310.01377).
"""

import random
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from filters.text import normal
from pipeline.engines import AnyEngine, Engine
from pipeline.records import Message, Seed
from stages.tasks.base import Example, Failed, Got, Question, Script, Task, answer
from stages.tasks.respond import asked_in, require_field


class Preference(Task):
    """Several answers per prompt, by temperature and by teacher; their rows lie next to each other."""

    kind: Literal["preference"] = "preference"
    field: Annotated[str, Field(description="the seed's field that holds the prompt or the messages")] = "prompt"
    answers: Annotated[int, Field(ge=2, description="answers per prompt")] = 4
    temperatures: Annotated[
        list[Annotated[float, Field(ge=0)]],
        Field(description="taken in turn by each teacher's answers; the stage's sampling when left out"),
    ] = []
    teachers: Annotated[
        list[AnyEngine],
        Field(description="who answers in turn with the plan's teacher; models that run here are all loaded at once"),
    ] = []

    @model_validator(mode="after")
    def _all_take_part(self) -> "Preference":
        needed = (len(self.teachers) + 1) * max(1, len(self.temperatures))
        if self.answers < needed:
            raise ValueError(
                f"answers is {self.answers}, too few for every teacher at every temperature: that takes {needed}"
            )
        return self

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The plan's teacher and the others."""
        return [*super().asks(teacher), *self.teachers]

    def require(self, given: set[str]) -> None:
        """The field is one the source gives."""
        require_field(self.kind, self.field, given)

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Ask all at once; of equal answers the first is kept."""
        turns = asked_in(seed, self.field)
        outcomes = yield [self._question(turns, n) for n in range(self.answers)]
        first: dict[str, int] = {}
        return [_candidate(n, turns, outcome, first) for n, outcome in enumerate(outcomes)]

    def _question(self, turns: list[Message], n: int) -> Question:
        """Teachers change with every answer, temperatures once all teachers had their turn."""
        turn, place = divmod(n, len(self.teachers) + 1)
        heat = {"temperature": self.temperatures[turn % len(self.temperatures)]} if self.temperatures else {}
        return Question(tuple(turns), sampling=heat, engine=self.teachers[place - 1] if place else None)


def _candidate(n: int, turns: list[Message], outcome: Got | Failed, first: dict[str, int]) -> Example:
    meta = {"candidate": n}
    if isinstance(outcome, Failed):
        return Example(outcome.messages, meta=meta, reason=outcome.reason, detail=outcome.detail, by=outcome.by)
    reply = outcome.value
    same = first.setdefault(normal(reply.text), n)
    example = Example([*turns, answer(reply.text)], reply.reasoning, meta, by=outcome.by)
    return example if same == n else example._replace(reason="same_answer", detail=f"equal to candidate {same}")
