"""Answer the seed's own prompt or conversation."""

import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from pipeline.component import Component, PlanFile
from pipeline.config import nearest
from pipeline.errors import UsageError
from pipeline.records import Message, Seed
from stages.sources.jsonl import read_rows
from stages.tasks.base import Example, Question, Script, Task, answer, user


class FewShot(Component):
    """Solved examples put before the question, drawn anew for each seed; the record does not keep them."""

    path: PlanFile
    count: Annotated[int, Field(ge=1, description="how many for each question")] = 3
    prompt: Annotated[str, Field(description="the field with the question")] = "prompt"
    answer: Annotated[str, Field(description="the field with the answer")] = "answer"

    def turns(self, seed: Seed, chance: random.Random) -> list[Message]:
        """Pairs of turns, never the seed's own row."""
        pool = [pair for pair in _pairs(self.path, self.prompt, self.answer) if pair[0] not in seed.fields.values()]
        drawn = chance.sample(pool, min(self.count, len(pool)))
        return [turn for asked, said in drawn for turn in (user(asked), answer(said))]


@cache
def _pairs(path: Path, prompt: str, said: str) -> list[tuple[str, str]]:
    pairs = [(row.get(prompt), row.get(said), where) for row, where in read_rows(path)]
    for asked, replied, where in pairs:
        if not (isinstance(asked, str) and isinstance(replied, str) and asked and replied):
            raise UsageError(f"{where}: few_shot needs the texts {prompt!r} and {said!r} in every row")
    return [(str(asked), str(replied)) for asked, replied, _ in pairs]


class Respond(Task):
    """The teacher answers the seed's `prompt` (text) or `messages` (a conversation that ends with a user turn)."""

    kind: Literal["respond"] = "respond"
    field: Annotated[str, Field(description="the seed's field that holds the prompt or the messages")] = "prompt"
    system: Annotated[str, Field(description="a system turn to put first, where a seed has none of its own")] = ""
    few_shot: Annotated[FewShot | None, Field(description="solved examples to put before the question")] = None

    def require(self, given: set[str]) -> None:
        """The field is one the source gives."""
        require_field(self.kind, self.field, given)
        if self.few_shot is not None:
            _pairs(self.few_shot.path, self.few_shot.prompt, self.few_shot.answer)

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Ask with the seed's turns as they are."""
        turns = asked_in(seed, self.field)
        own = turns[0].role == "system"
        first = [Message(role="system", content=self.system)] if self.system and not own else []
        shots = self.few_shot.turns(seed, chance) if self.few_shot else []
        head = turns[:1] if own and shots else []
        kept = (*first, *turns)
        reply = yield Question((*first, *head, *shots, *turns[len(head) :]), kept=kept)
        return [Example([*kept, answer(reply.text)], reply.reasoning)]


def require_field(task: str, field: str, given: Iterable[str]) -> None:
    """Raise UsageError where the source does not give `field`."""
    if field not in given:
        close = nearest(field, sorted(given))
        raise UsageError(f"task {task} asks with the field {field!r}, which the source does not give{close}")


def asked_in(seed: Seed, field: str) -> list[Message]:
    """A seed's prompt as a user turn, or its messages as they are. Raises UsageError that names the seed's place."""
    value = seed.fields.get(field)
    if isinstance(value, str) and value.strip():
        return [user(value)]
    if isinstance(value, list) and value:
        try:
            turns = [Message.model_validate(turn) for turn in value]
        except ValidationError as error:
            raise UsageError(f"{seed.where}: {field} is not a list of role and content") from error
        if turns[-1].role == "user":
            return turns
    raise UsageError(f"{seed.where}: {field} holds neither a prompt nor messages that end with a user turn")
