"""New instructions from a few seed tasks, with their inputs and answers (Self-Instruct, Wang et al. 2023, 2212.10560).

What was written is shown to later scripts among the seeds, so the pool grows. Each label of a classification task is
as likely to be the answer, for it is drawn first and the input is written to fit it.
"""

import random
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import regex
from pydantic import BaseModel, ConfigDict, Field, model_validator

from filters.text import normal, words
from pipeline.engines import Completion
from pipeline.records import Seed
from prompts import PromptFile, in_language, load
from stages.tasks.base import Example, Failed, Got, Question, Script, Task, Unreadable, answer, parsed, rendered, user
from stages.tasks.pool import Alike, Known, Pool, Seen, known
from stages.tasks.respond import require_field

NOTHING = {
    "",
    "n/a",
    "na",
    "none",
    "null",
    "no input",
    "<noinput>",
    "(none)",
    "(empty)",
    "없음",
    "입력 없음",
    "해당 없음",
}
OPENING = "\"'“‘«「『([{¿¡*#"  # punctuation that may begin a request, Markdown included
OTHER_MEDIA = (
    "image", "images", "picture", "pictures", "photo", "photos", "photograph", "draw", "drawing", "graph", "graphs",
    "chart", "charts", "diagram", "video", "videos", "audio", "recording", "file", "files", "website", "link",
    "이미지", "그림", "사진", "그래프", "도표", "차트", "동영상", "영상", "비디오", "오디오", "음성", "녹음", "파일",
    "웹사이트", "링크",
)  # fmt: skip
PARTICLE = (
    r"(?:(?:이|가|을|를|은|는|의|에|에서|으로|로|과|와|랑|도|만|부터|까지|처럼|보다|이나|나|들|들을|들이|에는|에서는)?)"
)
MOST_LABELS = 12
_NUMBERED = regex.compile(r"^\s*\d{1,2}[.)]\s+")  # as in the list that was shown


class Idea(BaseModel):
    """An instruction; `labels` are its possible answers where it is a classification task."""

    model_config = ConfigDict(extra="forbid")

    instruction: str
    labels: Annotated[list[str], Field(json_schema_extra={"maxItems": MOST_LABELS})]


class Ideas(BaseModel):
    """What the instruction question is answered with."""

    model_config = ConfigDict(extra="forbid")

    instructions: list[Idea]


class Input(BaseModel):
    """What the instance question of a classification task is answered with."""

    model_config = ConfigDict(extra="forbid")

    input: str


class Solved(Input):
    """What the instance question of any other task is answered with."""

    output: str


class Draft(NamedTuple):
    """An instruction on its way to an example; `label` is the answer it is to have, "" where the teacher answers."""

    instruction: str
    labels: tuple[str, ...]
    label: str

    @classmethod
    def of(cls, idea: Idea, chance: random.Random) -> "Draft":
        """Two labels make a classification task."""
        labels = tuple(dict.fromkeys(label.strip() for label in idea.labels if label.strip()))[:MOST_LABELS]
        if len(labels) < 2:
            labels = ()
        return cls(_NUMBERED.sub("", idea.instruction).strip(), labels, chance.choice(labels) if labels else "")


class SelfInstruct(Task):
    """New instructions, unlike those seen, with inputs and answers, from a few seed tasks."""

    lag: ClassVar[int | None] = 64

    kind: Literal["self_instruct"] = "self_instruct"
    field: Annotated[
        str,
        Field(description="the seed's field with the instruction; `instances`, or `input` and `output`, may solve it"),
    ] = "instruction"
    examples: Annotated[int, Field(ge=1, description="tasks shown, the seed's own among them")] = 8
    written: Annotated[int, Field(ge=0, description="how many of them may be the teacher's, once it has some")] = 2
    per_request: Annotated[int, Field(ge=1, le=50, description="instructions asked for at once")] = 4
    solved: Annotated[int, Field(ge=0, description="solved seed tasks shown where an instance is asked for")] = 2
    max_similarity: Annotated[
        float, Field(gt=0, le=1, description="ROUGE-L from which an instruction is not new, against all seen")
    ] = 0.7
    min_words: Annotated[int, Field(ge=1, description="of an instruction")] = 3
    max_words: Annotated[int, Field(ge=1, description="of an instruction")] = 150
    other_media: Annotated[
        tuple[str, ...], Field(description="words of instructions that text alone cannot follow")
    ] = OTHER_MEDIA
    language: Annotated[Literal["en", "ko"], Field(description="language of the bundled prompts")] = "en"
    instructions_prompt: Annotated[
        PromptFile,
        in_language("self_instruct/instructions"),
        Field(description="an own prompt file (given tasks, count); the bundled one of `language` when left out"),
    ] = None  # type: ignore[assignment]  # filled in by the validator
    instance_prompt: Annotated[
        PromptFile,
        in_language("self_instruct/instance"),
        Field(description="the same for input and answer of an instruction (given instruction, solved)"),
    ] = None  # type: ignore[assignment]
    input_prompt: Annotated[
        PromptFile,
        in_language("self_instruct/input"),
        Field(description="the same for classification: the input (given instruction, labels, label, solved)"),
    ] = None  # type: ignore[assignment]

    @model_validator(mode="after")
    def _in_bounds(self) -> "SelfInstruct":
        if self.written >= self.examples:
            raise ValueError(
                f"written is {self.written} of {self.examples} examples: the seed's own must be among them"
            )
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self

    @property
    def prompt_name(self) -> str:
        """The prompt that makes the instructions."""
        return load(self.instructions_prompt).name

    def require(self, given: set[str]) -> None:
        """The field is there, and what own prompts need besides what they are given here."""
        require_field(self.kind, self.field, given)
        load(self.instructions_prompt).require(given | {"tasks", "count"})
        load(self.instance_prompt).require(given | {"instruction", "solved"})
        load(self.input_prompt).require(given | {"instruction", "labels", "label", "solved"})

    def remember(self, seeds: Iterable[Seed]) -> Pool:
        """The seed tasks, to which what is written is added."""
        return Pool(known(seed, self.field) for seed in seeds)

    def script(self, seed: Seed, chance: random.Random, memory: Pool) -> Script:
        """Ask for instructions, then for the instances of those that are new, side by side."""
        own = known(seed, self.field)
        shown = memory.drawn(own, self.examples, self.written, chance)
        values = {"tasks": [task.instruction for task in shown], "count": self.per_request}
        messages = rendered(load(self.instructions_prompt), seed, values)
        [outcome] = yield [Question(messages, self._ideas, json_schema=self._schema())]
        if isinstance(outcome, Failed):
            raise Unreadable(outcome.reason, outcome.detail)
        drafts = [Draft.of(idea, chance) for idea in outcome.value]
        ids = [task.id for task in shown]
        examples = [e._replace(by=outcome.by) for e in self._judged(drafts, ids, memory)]
        novel = [n for n, example in enumerate(examples) if not example.reason]
        if novel:
            solved = [memory.solved(own, bool(drafts[n].label), self.solved, chance) for n in novel]
            instances = yield [self._instance(seed, drafts[n], tasks) for n, tasks in zip(novel, solved, strict=True)]
            for n, tasks, instance in zip(novel, solved, instances, strict=True):
                examples[n] = _completed(examples[n], drafts[n], tasks, instance)
        return examples

    def settle(self, example: Example, memory: Pool) -> Example:
        """Against everything that was taken before, in order; what is new is taken in."""
        if example.reason:
            return example
        made = example.meta["self_instruct"]
        if alike := memory.closest(made["instruction"], self.max_similarity):
            return example._replace(reason="not_novel", detail=_like(alike))
        memory.take(made["instruction"], made["shown"][0])
        return example

    def _schema(self) -> dict[str, Any]:
        """With an end to the list: a small model finds none by itself."""
        schema = Ideas.model_json_schema()
        schema["properties"]["instructions"] |= {"minItems": 1, "maxItems": self.per_request}
        return schema

    def _ideas(self, completion: Completion) -> list[Idea]:
        ideas: Ideas = parsed(Ideas)(completion)
        if not ideas.instructions:
            raise Unreadable("no_instructions")
        return ideas.instructions[: self.per_request]

    def _judged(self, drafts: list[Draft], shown: list[str], memory: Pool) -> Iterator[Example]:
        """Each instruction as an example without an answer, dropped where it is no new request for text."""
        siblings = Seen()
        for draft in drafts:
            meta = {"instruction": draft.instruction, "input": "", "labels": list(draft.labels), "shown": shown}
            example = Example([user(draft.instruction)], meta={"self_instruct": meta})
            reason, detail = self._problem(draft.instruction)
            if not reason:
                alike = siblings.closest(draft.instruction, self.max_similarity)
                alike = alike or memory.closest(draft.instruction, self.max_similarity)
                reason, detail = ("not_novel", _like(alike)) if alike else ("", "")
            if not reason:
                siblings.add(draft.instruction)
            yield example._replace(reason=reason, detail=detail)

    def _problem(self, instruction: str) -> tuple[str, str]:
        """Reason and detail, both empty where the instruction is in form."""
        count = len(words(normal(instruction)))
        if not self.min_words <= count <= self.max_words:
            return "wrong_length", f"{count} words"
        if unicodedata.category(instruction[0]).startswith("P") and instruction[0] not in OPENING:
            return "begins_with_punctuation", f"begins with {instruction[0]!r}"
        if found := self._media.search(normal(instruction)):
            return "needs_other_media", f"asks for {found[0]!r}"
        return "", ""

    @cached_property
    def _media(self) -> "regex.Pattern[str]":
        return regex.compile("|".join(_word(normal(word)) for word in self.other_media) or r"(?!)")

    def _instance(self, seed: Seed, draft: Draft, solved: list[Known]) -> Question:
        values = {"instruction": draft.instruction, "labels": list(draft.labels), "label": draft.label}
        shape: type[Input] = Input if draft.label else Solved
        file = self.input_prompt if draft.label else self.instance_prompt
        messages = rendered(load(file), seed, values | {"solved": [_shown(task, shape) for task in solved]})
        return Question(messages, parsed(shape), json_schema=shape.model_json_schema())


def _shown(task: Known, shape: type[Input]) -> str:
    """A solved task as a prompt shows it: its instruction, its label where it has one, the JSON that was to be said."""
    assert task.instance is not None, "drawn among those with one"
    said = shape.model_validate({name: getattr(task.instance, name) for name in shape.model_fields})
    label = f" => {task.instance.output}" if task.classification else ""
    return f"{task.instruction}{label}\n{said.model_dump_json()}"


def _completed(example: Example, draft: Draft, solved: list[Known], outcome: Got | Failed) -> Example:
    """The example with its input and answer, dropped where these are none."""
    if isinstance(outcome, Failed):
        return example._replace(messages=outcome.messages, reason=outcome.reason, detail=outcome.detail, by=outcome.by)
    taken = outcome.value.input.strip()
    taken = "" if normal(taken) in NOTHING else taken
    output = draft.label or outcome.value.output.strip()
    asked = f"{draft.instruction}\n\n{taken}" if taken else draft.instruction
    meta = {"self_instruct": example.meta["self_instruct"] | {"input": taken}}
    whole = Example([user(asked), answer(output)], meta=meta, by=outcome.by)
    if not output:
        return whole._replace(reason="empty_output")
    if draft.label and not taken:
        return whole._replace(reason="no_input", detail=f"nothing to sort as {draft.label!r}")
    if normal(taken) == normal(output):
        return whole._replace(reason="input_is_output")
    shown = [tuple(map(normal, task.instance or ())) for task in solved]
    if (normal(taken), normal(output)) in shown:
        return whole._replace(reason="copies_example", detail="input and output of a task it was shown")
    return whole


def _word(word: str) -> str:
    """A word as it stands in a text: Korean nouns may carry a particle, Latin ones nothing."""
    after = PARTICLE if regex.search(r"\p{Hangul}$", word) else ""
    return rf"(?<![\p{{L}}\p{{N}}]){regex.escape(word)}{after}(?![\p{{L}}\p{{N}}])"


def _like(alike: Alike) -> str:
    return f"{alike.score:.2f} like {alike.text[:200]!r}"
