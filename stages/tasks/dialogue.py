"""Conversations of several turns in which a model plays both sides.

The assistant's side sees the conversation as it is. The user's side sees it as a transcript, fenced off, and is told
who the user is; it may end the talk (as in UltraChat, Ding et al. 2023, arXiv 2305.14233).
"""

import random
from collections.abc import Callable
from typing import Annotated, Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, model_validator

from filters.text import normal
from pipeline.engines import Completion
from pipeline.errors import UsageError
from pipeline.records import Message, Seed, digest
from prompts import PromptFile, in_language, load
from stages.tasks.base import (
    Example,
    Failed,
    Question,
    Script,
    Task,
    Unreadable,
    answer,
    parsed,
    rendered,
    said,
    user,
)
from stages.tasks.respond import asked_in, require_field

GIVEN = {"persona", "transcript", "fence", "may_end"}
NAMES = {"en": {"user": "User", "assistant": "Assistant"}, "ko": {"user": "사용자", "assistant": "도우미"}}
_NAME = regex.compile(r"^\s*(?:user|human|customer|사용자|이용자|고객)\s*[:\uff1a]\s*", regex.IGNORECASE)
_ASSISTANT = regex.compile(
    r"(?m)^\s*(?:(?:sure|of course|certainly|yes|네|예|물론이죠|물론입니다)[,.!]*\s*)?"
    r"(?:(?:assistant|ai|bot|chatbot|어시스턴트|도우미|상담원|챗봇)\s*[:\uff1a]"
    r"|as an ai\b|how (?:can|may) i (?:help|assist) you|i(?:'d| would) be happy to help"
    r"|무엇을 도와\s?드릴까요|도와\s?드리겠습니다)",
    regex.IGNORECASE,
)


class UserWords(BaseModel):
    """What the user says next."""

    model_config = ConfigDict(extra="forbid")

    message: str


class UserTurn(UserWords):
    """What the user says next, or that there is nothing more to say."""

    done: bool


class Dialogue(Task):
    """A conversation of several turns, the user's side played by the teacher too."""

    kind: Literal["dialogue"] = "dialogue"
    field: Annotated[str, Field(description="the seed's field with the opening words, or with messages")] = "prompt"
    turns: Annotated[int, Field(ge=2, description="exchanges of user and assistant, the opening one counted")] = 3
    min_turns: Annotated[int, Field(ge=1, description="exchanges before the simulated user may end the talk")] = 2
    persona_field: Annotated[
        str | None, Field(description="the seed's field that says who the user is; anybody when left out")
    ] = None
    language: Annotated[Literal["en", "ko"], Field(description="language of the bundled prompts")] = "en"
    user_prompt: Annotated[
        PromptFile,
        in_language("dialogue"),
        Field(
            description="an own prompt file for the user's side (given `persona`, `transcript`, `fence`, `may_end`); "
            "the bundled one of `language` when left out"
        ),
    ] = None  # type: ignore[assignment]  # filled in by the validator

    @model_validator(mode="after")
    def _may_end_in_time(self) -> "Dialogue":
        if self.min_turns > self.turns:
            raise ValueError(f"min_turns is {self.min_turns}, above turns, which is {self.turns}")
        return self

    @property
    def prompt_name(self) -> str:
        """File name and the start of its digest."""
        return load(self.user_prompt).name

    def require(self, given: set[str]) -> None:
        """The fields are ones the source gives."""
        for field in (self.field, self.persona_field):
            if field is not None:
                require_field(self.kind, field, given)
        load(self.user_prompt).require(given | GIVEN)

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Answer and user in turn. What fails late leaves the whole exchanges before it."""
        turns, persona = asked_in(seed, self.field), self._persona(seed)
        whole: Example | None = None
        for n in range(self.turns):
            if whole is not None:
                [next_turn] = yield [self._next(seed, persona, turns, n >= self.min_turns)]
                if isinstance(next_turn, Failed):
                    return [cut_short(whole, next_turn, next_turn.messages)]
                if next_turn.value is None:
                    return [whole]
                turns = [*turns, user(next_turn.value)]
            [reply] = yield [Question(tuple(turns), read=_new_to(turns))]
            if isinstance(reply, Failed):
                return [cut_short(whole, reply, reply.messages)]
            turns = [*turns, answer(reply.value.text)]
            whole = Example(turns, reply.value.reasoning, {"exchanges": n + 1}, by=reply.by)
        assert whole is not None, "there are two turns at least"
        return [whole]

    def _persona(self, seed: Seed) -> str:
        if self.persona_field is None:
            return ""
        persona = seed.fields.get(self.persona_field)
        if not isinstance(persona, str) or not persona.strip():
            raise UsageError(f"{seed.where}: {self.persona_field} holds no text that says who the user is")
        return persona

    def _next(self, seed: Seed, persona: str, turns: list[Message], may_end: bool) -> Question:
        names = NAMES[self.language]
        shown = "\n\n".join(f"{names[turn.role]}: {turn.content}" for turn in turns if turn.role in names)
        fence = digest(shown, 8)  # no text holds its own digest
        more = {"persona": persona, "transcript": shown, "fence": fence, "may_end": may_end}
        shape = UserTurn if may_end else UserWords
        asked = rendered(load(self.user_prompt), seed, more)
        return Question(asked, read=_users(turns, shape), json_schema=shape.model_json_schema())


def cut_short(whole: Example | None, failed: Failed, shown: list[Message]) -> Example:
    """The exchanges before a failed turn; where there is none, the failure with what there is to show of it."""
    if whole is None:
        return Example(shown, reason=failed.reason, detail=failed.detail, by=failed.by)
    return whole._replace(meta={**whole.meta, "cut_short": failed.reason})


def _new_to(turns: list[Message]) -> Callable[[Completion], Completion]:
    """A reader of the assistant's next turn, which must not be one that was there."""

    def read(completion: Completion) -> Completion:
        reply = said(completion)
        _refuse_repeated(reply.text, turns)
        return reply

    return read


def _users(turns: list[Message], shape: type[UserWords]) -> Callable[[Completion], str | None]:
    """A reader of the user's next words; None where the user is done."""

    def read(completion: Completion) -> str | None:
        turn: UserWords = parsed(shape)(completion)
        if isinstance(turn, UserTurn) and turn.done:
            return None
        text = _NAME.sub("", turn.message).strip()
        if not text:
            raise Unreadable("empty_turn")
        if found := _ASSISTANT.search(text):
            raise Unreadable("spoke_as_assistant", f"the simulated user said {found[0].strip()!r}")
        _refuse_repeated(text, turns)
        return text

    return read


def _refuse_repeated(text: str, turns: list[Message]) -> None:
    for n, turn in enumerate(turns, 1):
        if normal(turn.content) == normal(text):
            raise Unreadable("repeated_turn", f"the same as turn {n}, by the {turn.role}")
