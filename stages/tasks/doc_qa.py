"""Questions and answers from documents: the teacher writes pairs about a passage and quotes what each rests on."""

import random
import unicodedata
from functools import cache
from typing import Annotated, Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import UsageError
from pipeline.records import Seed, digest
from prompts import PromptFile, in_language, load
from stages.tasks.alone import reference
from stages.tasks.base import Example, Question, Script, Task, answer, parsed, rendered, user
from stages.tasks.respond import require_field

GIVEN = {"place", "pairs", "alone", "fence"}
MARKUP = regex.compile(r"\]\([^)\s]*\)|[\s`*_\\\[\]\"'“”‘’«»「」『』]+")
ENDS = ".。…,;:!?"
QUOTE = 8  # characters: fewer are found in any text and prove nothing


class Pair(BaseModel):
    """One question with its answer and the words of the passage that prove it."""

    model_config = ConfigDict(extra="forbid")

    question: str
    answer: str
    quote: str


class Pairs(BaseModel):
    """What the teacher writes about one passage."""

    model_config = ConfigDict(extra="forbid")

    pairs: list[Pair]


class DocQA(Task):
    """The teacher writes questions and answers about a passage, each with a quote that must be found in it."""

    kind: Literal["doc_qa"] = "doc_qa"
    field: Annotated[str, Field(description="the seed's field that holds the passage")] = "text"
    pairs: Annotated[int, Field(ge=1, description="pairs asked for per passage")] = 3
    context: Annotated[
        Literal["none", "before"],
        Field(description="whether the record's question comes after the passage or has to stand alone"),
    ] = "none"
    language: Annotated[Literal["en", "ko"], Field(description="language of the bundled prompts")] = "en"
    prompt: Annotated[
        PromptFile,
        in_language("doc_qa"),
        Field(description="an own prompt file; the bundled one of `language` when left out"),
    ] = None  # type: ignore[assignment]  # filled in by the validator

    @property
    def prompt_name(self) -> str:
        """File name and the start of its digest."""
        return load(self.prompt).name

    def require(self, given: set[str]) -> None:
        """The passage is a field of the source, and so is what an own prompt needs."""
        require_field(self.kind, self.field, given)
        load(self.prompt).require(given | GIVEN | {"text"})

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Ask once; every pair is an example, kept or dropped."""
        text = seed.fields.get(self.field)
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{seed.where}: {self.field} holds no text to ask about")
        values = {
            "text": text,
            "place": _place(seed),
            "pairs": self.pairs,
            "alone": self.context == "none",
            "fence": digest(text, 8),  # the passage cannot hold its own digest, so it cannot close the fence
        }
        kept = rendered(load(self.prompt), seed, values, shots=False)
        asked = rendered(load(self.prompt), seed, values)
        made: Pairs = yield Question(asked, parsed(Pairs), kept, json_schema=_schema(self.pairs))
        if not made.pairs:
            said = answer(made.model_dump_json())
            return [Example([*kept, said], reason="no_pairs", detail="the teacher found nothing to ask")]
        seen: set[str] = set()
        return [self._example(pair, text, seen) for pair in made.pairs]

    def _example(self, pair: Pair, text: str, seen: set[str]) -> Example:
        reason, detail = self._problem(pair, text, seen)
        seen.add(bare(pair.question))
        question = f"{text.strip()}\n\n{pair.question.strip()}" if self.context == "before" else pair.question.strip()
        turns = [user(question), answer(pair.answer.strip())]
        return Example(turns, meta={"quote": pair.quote}, reason=reason, detail=detail)

    def _problem(self, pair: Pair, text: str, seen: set[str]) -> tuple[str, str]:
        """Why a pair is dropped: a slug and a detail, both "" where it is kept."""
        if not bare(pair.question) or not bare(pair.answer):
            return "empty_pair", "a question or an answer is empty"
        quote = bare(pair.quote).strip(ENDS)
        if quote not in bare(text):
            return "quote_not_found", pair.quote[:200]
        if len(quote) < QUOTE:
            return "quote_too_short", pair.quote
        if bare(pair.question) in seen:
            return "repeated_question", pair.question[:200]
        referring = (reference(pair.question) or reference(pair.answer)) if self.context == "none" else ""
        return ("refers_to_text", referring) if referring else ("", "")


def _place(seed: Seed) -> str:
    """The document's title and the headings above the passage, where the source gives them."""
    title, headings = seed.fields.get("title"), seed.fields.get("headings")
    names = [title, *(headings if isinstance(headings, list) else [])]
    return " > ".join(dict.fromkeys(name.strip() for name in names if isinstance(name, str) and name.strip()))


def bare(text: str) -> str:
    """What is compared: letters in one form and case; white space, quotation marks, emphasis and links left out."""
    return MARKUP.sub("", unicodedata.normalize("NFKC", text)).casefold()


@cache
def _schema(pairs: int) -> dict[str, Any]:
    """At most so many pairs: a small model would go on until it is cut."""
    schema = Pairs.model_json_schema()
    schema["properties"]["pairs"]["maxItems"] = pairs
    return schema
