"""Prompts made harder or rarer round by round, then answered (Evol-Instruct of WizardLM, Xu et al. 2023, 2304.12244).

A round that fails is dropped with its reason, and the next one goes on from the last prompt that was good.
"""

import random
from collections.abc import Generator
from typing import Annotated, Any, Literal, NamedTuple

import regex
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from filters.refusal import refusal_in
from filters.text import normal, words
from pipeline.engines import Completion
from pipeline.errors import UsageError
from pipeline.records import Seed, digest
from prompts import PromptFile, bundled_prompt, in_language, load
from stages.tasks.base import Example, Failed, Question, Script, Task, Unreadable, answer, parsed, rendered, said, user
from stages.tasks.respond import require_field

Operation = Literal["constraints", "deepen", "concretize", "reasoning", "breadth"]
OPERATIONS: tuple[Operation, ...] = ("constraints", "deepen", "concretize", "reasoning", "breadth")
VERDICTS = ("equal", "different")
COPIED = 5  # words in a row from the evolving prompt, which a prompt on another subject has no reason to hold
LEAKS = (
    "given prompt", "original prompt", "rewritten prompt", "new prompt", "evolved prompt", "created prompt",
    "given request", "original request", "rewritten request", "harder request", "first request", "<text-", "</text-",
    "주어진 프롬프트", "원래 프롬프트", "새 프롬프트", "새로운 프롬프트", "다시 쓴 프롬프트", "고쳐 쓴 프롬프트",
    "주어진 요청", "원래 요청", "처음 요청", "고쳐 쓴 요청", "더 어려운 요청", "두 표시 사이",
)  # fmt: skip
_HEADING = regex.compile(r"#[^#\n]*\b(?:prompt|request)\b[^#\n]*#|#[^#\n]*(?:프롬프트|요청)[^#\n]*#")
STOP_WORDS = frozenset(
    words(
        "a an the of to and or in on at for with by from as is are was were be it its this that these those i you he"
        " she we they me my your so then there here well 그 이 저 것 수 등 및 또는 그리고 그런데 그래서 음 어 아"
    )
)


def _with_bundled(given: dict[Operation, Any], info: ValidationInfo) -> dict[Operation, Any]:
    """The bundled prompts of the language for operations that have no own."""
    language = info.data.get("language", "en")
    return {name: given.get(name) or bundled_prompt(f"evolve/{name}", language) for name in OPERATIONS}


class Rewritten(BaseModel):
    """What an evolving question is answered with."""

    model_config = ConfigDict(extra="forbid")

    prompt: str


class Step(NamedTuple):
    """One evolution of a prompt."""

    round: int
    operation: Operation
    parent: str


class Evolve(Task):
    """Evolves each seed's prompt for some rounds, in depth or in breadth, and answers every good result."""

    kind: Literal["evolve"] = "evolve"
    field: Annotated[str, Field(description="the seed's field with the prompt to begin from")] = "prompt"
    rounds: Annotated[int, Field(ge=1, description="evolutions in a row")] = 2
    operations: Annotated[
        dict[Operation, Annotated[float, Field(ge=0)]],
        Field(description="how often each is drawn: four that go into depth and `breadth`, a new prompt of the field"),
    ] = dict.fromkeys(OPERATIONS, 1.0)
    leaks: Annotated[
        tuple[str, ...], Field(description="words of the evolving prompts that an evolved one must not repeat")
    ] = LEAKS
    language: Annotated[Literal["en", "ko"], Field(description="language of the bundled prompts")] = "en"
    prompts: Annotated[
        dict[Operation, PromptFile],
        AfterValidator(_with_bundled),
        Field(description="own prompt files by operation (given prompt, fence); else the bundled ones of `language`"),
    ] = {}
    equal_prompt: Annotated[
        PromptFile,
        in_language("evolve/equal"),
        Field(description="the same for comparing two prompts (given first, second, fence): says equal or different"),
    ] = None  # type: ignore[assignment]  # filled in by the validator

    @model_validator(mode="after")
    def _something_to_draw(self) -> "Evolve":
        if not any(self.operations.values()):
            raise ValueError("operations has no weight above 0")
        return self

    def require(self, given: set[str]) -> None:
        """The field is there, and what own prompts need besides what they are given here."""
        require_field(self.kind, self.field, given)
        for file in self.prompts.values():
            load(file).require(given | {"prompt", "fence"})
        load(self.equal_prompt).require(given | {"first", "second", "fence"})

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Evolve, compare, answer; once a round."""
        good = seed.fields.get(self.field)
        if not isinstance(good, str) or not good.strip():
            raise UsageError(f"{seed.where}: {self.field} holds no prompt")
        examples: list[Example] = []
        for number in range(1, self.rounds + 1):
            operation = chance.choices(list(self.operations), list(self.operations.values()))[0]
            step = Step(number, operation, good)
            example = yield from self._round(seed, step)
            examples.append(example._replace(meta={"evolve": step._asdict()}))
            if not example.reason:
                good = example.messages[0].content
        return examples

    def _round(self, seed: Seed, step: Step) -> Generator[list[Question], Any, Example]:
        """The evolved prompt with its answer, or what was wrong."""
        [evolved] = yield [self._evolving(seed, step)]
        if isinstance(evolved, Failed):
            return _failed(evolved)
        prompt = evolved.value
        bare = Example([user(prompt)], by=evolved.by)
        if problem := self._problem(prompt, step.parent, evolved.by.answered.request.messages[-1].content):
            return bare._replace(reason=problem[0], detail=problem[1])
        [verdict] = yield [self._comparing(seed, step.parent, prompt)]
        if isinstance(verdict, Failed):
            return bare._replace(reason=verdict.reason, detail=verdict.detail, by=verdict.by)
        if verdict.value == "equal":
            return bare._replace(reason="no_gain", detail="it asks for what its parent asks")
        [reply] = yield [Question((user(prompt),))]
        if isinstance(reply, Failed):
            return _failed(reply)
        reason, detail = _nothing_said(reply.value.text)
        whole = [user(prompt), answer(reply.value.text)]
        return Example(whole, reply.value.reasoning, reason=reason, detail=detail, by=reply.by)

    def _evolving(self, seed: Seed, step: Step) -> Question:
        values = {"prompt": step.parent, "fence": digest(step.parent, 8)}
        messages = rendered(load(self.prompts[step.operation]), seed, values)
        return Question(messages, _rewritten, json_schema=Rewritten.model_json_schema())

    def _comparing(self, seed: Seed, first: str, second: str) -> Question:
        values = {"first": first, "second": second, "fence": digest([first, second], 8)}
        messages = rendered(load(self.equal_prompt), seed, values)
        return Question(messages, _verdict, sampling={"temperature": 0.0}, choices=VERDICTS)

    def _problem(self, prompt: str, parent: str, asked: str) -> tuple[str, str] | None:
        """Reason and detail, where the evolved prompt shows at once that it is none; `asked` is what evolved it."""
        now, before = normal(prompt), normal(parent)
        if not words(now):
            return "says_nothing", "it has no word"
        if now == before:
            return "no_gain", "it is its parent"
        found = next((leak for leak in map(normal, self.leaks) if leak in now and leak not in before), None)
        if found is None and (heading := _HEADING.search(now)) and heading[0] not in before:
            found = heading[0]
        if found is None:
            own = set(_runs(asked)) - set(_runs(before))
            found = next((" ".join(run) for run in _runs(now) if run in own), None)
        return None if found is None else ("leaked_prompt", f"holds {found[:80]!r}")


def _runs(text: str) -> list[tuple[str, ...]]:
    """Every `COPIED` words in a row."""
    spoken = words(normal(text))
    return list(zip(*(spoken[n:] for n in range(COPIED)), strict=False))


def _rewritten(completion: Completion) -> str:
    prompt = str(parsed(Rewritten)(completion).prompt).strip()
    if not prompt:
        raise Unreadable("empty_answer")
    return prompt


def _verdict(completion: Completion) -> str:
    text = normal(said(completion).text).strip(".\"'* ")
    if text not in VERDICTS:
        raise Unreadable("no_verdict", f"it said {text[:80]!r}")
    return text


def _failed(outcome: Failed) -> Example:
    return Example(outcome.messages, reason=outcome.reason, detail=outcome.detail, by=outcome.by)


def _nothing_said(text: str) -> tuple[str, str]:
    """Reason and detail, both empty where the answer says something."""
    spoken = words(normal(text))
    if all(word in STOP_WORDS for word in spoken):
        return "says_nothing", f"{len(spoken)} words, none of substance"
    found = refusal_in(text)
    if found is not None and found.reason != "partial_refusal":  # one that goes on to answer still answers
        return "refusal", f"says {found.phrase!r}"
    return "", ""
