"""Reasoning written down apart from the answer, and only answers that a gold answer confirms.

The final answer is compared with the seed's own where it has one; what is wrong is dropped, so that samples which
reach the right answer remain (STaR, Zelikman et al. 2022, arXiv 2203.14465; more of them with `generate.samples`).
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, model_validator

from filters.final import WHAT, Check, final_of
from filters.text import normal, words
from pipeline.engines import Completion
from pipeline.errors import UsageError
from pipeline.records import Message, Seed
from prompts import PromptFile, in_language, load
from stages.tasks.base import Example, Question, Script, Task, Unreadable, answer, parsed, rendered, said
from stages.tasks.respond import asked_in, require_field

_EATEN = regex.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]|\r(?!\n)|\t(?=imes|ext|heta|au\b|an\b)")


class Thought(BaseModel):
    """What a prompted teacher writes."""

    model_config = ConfigDict(extra="forbid")

    reasoning: str
    answer: str


class Reason(Task):
    """Step-by-step reasoning kept apart from the final answer, checked against a gold answer where there is one."""

    kind: Literal["reason"] = "reason"
    field: Annotated[str, Field(description="the seed's field that holds the prompt or the messages")] = "prompt"
    thinking: Annotated[
        Literal["prompted", "native"],
        Field(description="prompted: any model, asked to reason first; native: a reasoning model's own thinking"),
    ] = "prompted"
    language: Annotated[Literal["en", "ko"], Field(description="language of the bundled prompts")] = "en"
    prompt: Annotated[
        PromptFile | None,
        in_language("reason"),
        Field(description="an own prompt file (given `question`); the bundled one of `language` when left out"),
    ] = None
    answer_field: Annotated[
        str | None, Field(description="the seed's field with the gold answer; answers are not compared when left out")
    ] = None
    check: Annotated[
        Check,
        Field(description="how the gold answer is compared: the last number, the letter of a choice, the whole text"),
    ] = "number"

    @model_validator(mode="after")
    def _asks_with_a_prompt(self) -> "Reason":
        if self.thinking == "native" and "prompt" in self.model_fields_set:
            raise ValueError("thinking: native asks with the seed's own turns; leave `prompt` out")
        return self

    def identity(self) -> dict[str, Any]:
        """The settings; the prompt only where it asks with one."""
        return super().identity() | ({"prompt": None} if self.thinking == "native" else {})

    @property
    def prompt_name(self) -> str:
        """File name and the start of its digest."""
        file = self._file()
        return load(file).name if file else ""

    def _file(self) -> Path | None:
        return None if self.thinking == "native" else self.prompt

    def require(self, given: set[str]) -> None:
        """The fields are ones the source gives."""
        for field in (self.field, self.answer_field):
            if field is not None:
                require_field(self.kind, field, given)
        if file := self._file():
            load(file).require(given | {"question"})

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Ask; the example keeps the seed's own turns, not the prompt around them."""
        turns = asked_in(seed, self.field)
        gold = self._gold(seed)
        file = self._file()
        if file is None:
            native = yield Question(tuple(turns), read=_thought)
            reasoning, final = native.reasoning, native.text
        else:
            asked = _around(turns, rendered(load(file), seed, {"question": turns[-1].content}))
            thought = yield Question(asked, read=_written(asked[-1]), json_schema=Thought.model_json_schema())
            reasoning, final = thought.reasoning, thought.answer
        found = final_of(self.check, final) if gold else gold
        wrong = found != gold
        detail = f"it said {found or 'nothing to compare'}, the gold answer is {gold}" if wrong else ""
        return [Example([*turns, answer(final)], reasoning, reason="wrong_answer" if wrong else "", detail=detail)]

    def _gold(self, seed: Seed) -> str:
        """What the final answer has to be; "" where that is not compared."""
        if self.answer_field is None:
            return ""
        value = seed.fields.get(self.answer_field)
        gold = final_of(self.check, str(value)) if isinstance(value, str | int | float) else ""
        if not gold:
            raise UsageError(f"{seed.where}: {self.answer_field} holds no {WHAT[self.check]} to compare with")
        return gold


def _around(turns: list[Message], prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """A conversation whose last turn the prompt has taken in; one system turn at most, for templates refuse two."""
    system = "\n\n".join(t.content for t in (*prompt, *turns) if t.role == "system")
    first = [Message(role="system", content=system)] if system else []
    shots = [t for t in prompt[:-1] if t.role != "system"]
    before = [t for t in turns[:-1] if t.role != "system"]
    return (*first, *shots, *before, prompt[-1])


def _thought(completion: Completion) -> Completion:
    reply = said(completion)
    if not reply.reasoning.strip():
        raise Unreadable("no_reasoning", "no thinking came with the answer: is this a reasoning model?")
    return reply


def _written(asked: Message) -> Callable[[Completion], Thought]:
    """A reader of both parts; words of the prompt said again are no reasoning."""

    def read(completion: Completion) -> Thought:
        thought = parsed(Thought)(completion)
        reasoning, final = thought.reasoning.strip(), thought.answer.strip()
        if not final:
            raise Unreadable("empty_answer")
        if not words(reasoning):
            raise Unreadable("no_reasoning")
        if normal(reasoning) == normal(final) or normal(reasoning) in normal(asked.content):
            raise Unreadable("no_reasoning", "it only says the answer or the prompt again")
        if eaten := _EATEN.search(reasoning + final):  # "\frac" in JSON is a form feed and "rac"
            raise Unreadable("lost_backslash", f"{eaten[0]!r} in the text: LaTeX that JSON has taken for an escape")
        return Thought(reasoning=reasoning, answer=final)

    return read
