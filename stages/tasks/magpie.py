"""Instructions out of nothing: an aligned model, given the empty user turn of its own chat template, writes the user.

Magpie (Xu et al. 2024, arXiv 2406.08464). It needs an engine that holds the model itself; a server's chat
interface always answers. The system turn steers the domain; several turns continue the same way.
"""

import random
from typing import Annotated, Any, Literal

import regex
from pydantic import Field

from pipeline.engines import Completion, Engine
from pipeline.errors import UsageError
from pipeline.records import Message, Seed
from stages.tasks.base import Example, Failed, Question, Script, Task, Unreadable, answer, said, user
from stages.tasks.dialogue import cut_short
from stages.tasks.respond import require_field

_TOKENS = r"<\|[^\s<>]*\|?>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?think>|<(?:eos|bos|pad|unk)>"
TEMPLATE_TOKENS = regex.compile(_TOKENS)
STOP = ("\nUser:", "\nHuman:", "\nAssistant:", "\nAI:", "\n사용자:", "\n어시스턴트:")
NEXT_TURN = regex.compile(  # where a model that writes on after the user's words begins the next turn
    r"\n\s*(?:#+\s*)?\**(?:user|human|assistant|ai|system|사용자|어시스턴트)\**\s*(?:[:\uff1a]\**|(?=\n|$))",
    regex.IGNORECASE,
)


class Magpie(Task):
    """The teacher writes the user's words too, from the empty user turn of its chat template."""

    kind: Literal["magpie"] = "magpie"
    system_field: Annotated[
        str | None, Field(description="the seed's field with a system turn to put first; none when left out")
    ] = None
    turns: Annotated[int, Field(ge=1, description="exchanges of user and assistant")] = 1
    max_chars: Annotated[int, Field(ge=1, description="longest instruction, in characters")] = 2000
    answer_temperature: Annotated[
        float | None, Field(ge=0, description="temperature of the answers; the stage's when left out")
    ] = None

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The teacher, which must be one that can write the user's turn."""
        engines = super().asks(teacher)
        if any(engine.remote for engine in engines):
            raise UsageError(
                "task magpie has the teacher write the user's turn, which a chat server cannot",
                hint="load the model here: teacher: {kind: vllm, model: ...}",
            )
        return engines

    def require(self, given: set[str]) -> None:
        """The system field, if one is named, is one the source gives."""
        if self.system_field is not None:
            require_field(self.kind, self.system_field, given)

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """User and assistant in turn. What fails late leaves the whole exchanges before it."""
        turns = self._system(seed)
        heat = {} if self.answer_temperature is None else {"temperature": self.answer_temperature}
        whole: Example | None = None
        for n in range(self.turns):
            [asked] = yield [Question(tuple(turns), self._instruction, sampling={"stop": STOP}, open_user=True)]
            if isinstance(asked, Failed):
                return [cut_short(whole, asked, [*turns, user(asked.by.answered.completion.text.strip())])]
            turns = [*turns, user(asked.value)]
            [reply] = yield [Question(tuple(turns), sampling=heat)]
            if isinstance(reply, Failed):
                return [cut_short(whole, reply, reply.messages)]
            turns = [*turns, answer(reply.value.text)]
            whole = Example(turns, reply.value.reasoning, {"exchanges": n + 1}, by=reply.by)
        assert whole is not None, "there is one turn at least"
        return [whole]

    def _system(self, seed: Seed) -> list[Message]:
        if self.system_field is None:
            return []
        text = seed.fields.get(self.system_field)
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{seed.where}: {self.system_field} holds no text for a system turn")
        return [Message(role="system", content=text)]

    def _instruction(self, completion: Completion) -> str:
        """The user's words, cut where the model goes on with the next turn."""
        text = NEXT_TURN.split(f"\n{said(completion).text}", maxsplit=1)[0].strip()
        if not text:
            raise Unreadable("empty_answer", "the model did not write a user's words")
        if found := TEMPLATE_TOKENS.search(text):
            raise Unreadable("template_tokens", f"{found[0]!r} in the instruction")
        if len(text) > self.max_chars:
            raise Unreadable("too_long", f"{len(text)} characters, over {self.max_chars}")
        return text
