"""The seed's text in other words: another language, another style, shorter, or there and back through a language.

The student learns the task in plain words: the record keeps the prompt's user turn, and leaves out its `shot` turns.
Translating there and back gives a paraphrase (Sennrich et al. 2016, arXiv 1511.06709, for the translation itself).
"""

import random
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from filters.text import normal
from pipeline.engines import Completion
from pipeline.errors import UsageError
from pipeline.records import Message, Seed
from prompts import PromptFile, bundled_prompt, load
from stages.tasks.base import Example, Question, Script, Task, Unreadable, answer, rendered, said
from stages.tasks.respond import require_field

GIVEN = {"text", "to"}


def _bundled(path: Any, info: ValidationInfo) -> Any:
    """The prompt of `how`, where a plan names none; there and back both ways are translations."""
    how = info.data.get("how", "translate")  # what is not there has been refused: one message is enough
    step = "translate" if how == "back_translate" else how
    return bundled_prompt(f"rewrite/{step}", info.data.get("language", "en")) if path is None else path


def _students(path: Any, info: ValidationInfo) -> Any:
    """Nobody is asked to paraphrase, yet that is what the student learns."""
    if path is not None or info.data.get("how") != "back_translate":
        return path
    return bundled_prompt("rewrite/back_translate", info.data.get("language", "en"))


class Rewrite(Task):
    """The seed's text translated, restyled, summarised, or paraphrased through another language and back."""

    kind: Literal["rewrite"] = "rewrite"
    how: Annotated[
        Literal["translate", "restyle", "summarise", "back_translate"], Field(description="what is done with the text")
    ]
    to: Annotated[
        str,
        Field(
            min_length=1,
            description="the target in the prompt's language: a language (Korean), a style (a friendly e-mail), "
            "a length (one sentence); for back_translate the text's own language",
        ),
    ]
    via: Annotated[str, Field(description="back_translate: the language it goes through")] = ""
    field: Annotated[str, Field(description="the seed's field that holds the text")] = "text"
    language: Annotated[Literal["en", "ko"], Field(description="language of the bundled prompts")] = "en"
    prompt: Annotated[
        PromptFile,
        BeforeValidator(_bundled),
        Field(
            description="an own prompt file (given `text` and `to`; for back_translate it translates both ways); "
            "the bundled one of `how` and `language` when left out"
        ),
    ] = None  # type: ignore[assignment]
    student_prompt: Annotated[
        PromptFile | None,
        BeforeValidator(_students),
        Field(
            description="what the record's user turn says instead (given `text` and `to`); bundled for back_translate"
        ),
    ] = None

    @model_validator(mode="after")
    def _via_where_it_counts(self) -> "Rewrite":
        if (self.how == "back_translate") != bool(self.via):
            raise ValueError(
                "back_translate needs `via`, the language it goes through"
                if not self.via
                else f"via {self.via!r} is for back_translate; {self.how} goes straight"
            )
        if self.via and normal(self.via) == normal(self.to):
            raise ValueError(f"via and to are both {self.to!r}: nothing would be translated")
        return self

    @property
    def prompt_name(self) -> str:
        """File name and the start of its digest."""
        return load(self.prompt).name

    def require(self, given: set[str]) -> None:
        """The field is one the source gives."""
        require_field(self.kind, self.field, given)
        for file in (self.prompt, self.student_prompt):
            if file is not None:
                load(file).require(given | GIVEN)

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """One question, two for there and back."""
        text = seed.fields.get(self.field)
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{seed.where}: {self.field} holds no text to rewrite")
        text = text.strip()
        shown = rendered(load(self.student_prompt or self.prompt), seed, {"text": text, "to": self.to}, shots=False)
        if not self.via:
            asked = self._turns(seed, text, self.to)
            kept = shown if set(shown) <= set(asked) else None
            reply = yield Question(asked, read=self._other_than(text), kept=kept)
            return [Example([*shown, answer(reply.text)], reply.reasoning)]
        there = yield Question(self._turns(seed, text, self.via), read=self._other_than(text))
        back = yield Question(self._turns(seed, there.text, self.to), read=self._other_than(there.text))
        same = normal(back.text) == normal(text)
        return [Example([*shown, answer(back.text)], meta={"via": there.text}, reason="unchanged" if same else "")]

    def _turns(self, seed: Seed, text: str, to: str) -> tuple[Message, ...]:
        return rendered(load(self.prompt), seed, {"text": text, "to": to})

    def _other_than(self, text: str) -> Callable[[Completion], Completion]:
        """A reader that refuses the source itself, and a summary that is no shorter."""

        def read(completion: Completion) -> Completion:
            reply = said(completion)
            if normal(reply.text) == normal(text):
                raise Unreadable("copied", "the result is the source")
            if self.how == "summarise" and len(reply.text) >= len(text):
                raise Unreadable("not_shorter", f"{len(reply.text)} characters from {len(text)}")
            return reply

        return read
