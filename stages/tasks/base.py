"""What a task is: a script per seed that asks the teacher, reads what it says, and ends with examples.

A script is a generator. It yields a `Question` and is sent what the question's `read` made of the answer; or it
yields a list of questions, which are asked side by side, and is sent a list of `Got` and `Failed`. It returns the
examples. Whoever runs the scripts (`stages/scripts.py`) keeps thousands of them going at once, asks again where an
answer cannot be read, and takes the examples in the order of the seeds, so a script depends on nothing but its seed,
its `chance`, and the answers.
"""

import random
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import orjson
from pydantic import BaseModel, ValidationError

from pipeline.component import Component
from pipeline.engines import Answered, Completion, Engine
from pipeline.errors import UsageError
from pipeline.records import Message, Seed
from prompts import Prompt


class Unreadable(Exception):  # noqa: N818  (an outcome, not a fault)
    """An answer that cannot be used; `reason` is a snake_case slug."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def said(completion: Completion) -> Completion:
    """The completion with its text stripped. Raises Unreadable where nothing was said."""
    text = completion.text.strip()
    if not text:
        raise Unreadable("empty_answer")
    return completion.model_copy(update={"text": text})


def parsed(shape: type[BaseModel]) -> Callable[[Completion], Any]:
    """A reader of JSON of one shape, in a code fence or not."""

    def read(completion: Completion) -> Any:
        text = said(completion).text.removeprefix("```json").removeprefix("```").removesuffix("```")
        try:
            return shape.model_validate(orjson.loads(text))
        except orjson.JSONDecodeError as error:
            raise Unreadable("not_json", str(error)) from error
        except ValidationError as error:
            first = error.errors()[0]
            raise Unreadable("wrong_shape", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    return read


class Question(NamedTuple):
    """One thing to ask. `sampling` overrides the stage's by name; `engine` None is the teacher.

    `kept` is what a row shows of a question that failed, where that is not `messages`.
    """

    messages: tuple[Message, ...]
    read: Callable[[Completion], Any] = said
    kept: tuple[Message, ...] | None = None
    sampling: Mapping[str, Any] = {}
    json_schema: dict[str, Any] | None = None
    choices: tuple[str, ...] = ()
    engine: Engine | None = None
    open_user: bool = False


class By(NamedTuple):
    """The answer something was read from, and the engine that gave it (None: the teacher)."""

    answered: Answered
    engine: Engine | None


class Got(NamedTuple):
    """What was read from one of several answers."""

    value: Any
    by: By


class Failed(NamedTuple):
    """One of several questions that brought nothing."""

    reason: str
    detail: str
    messages: list[Message]
    by: By


class Example(NamedTuple):
    """What becomes a record. With `reason` (a slug) set it is a dropped one.

    `by`: the answer it stems from, the script's last where None. `meta` is added to the seed's own fields. `made_by`:
    what is known of an answer that was not asked here.
    """

    messages: list[Message]
    reasoning: str = ""
    meta: Mapping[str, Any] = {}
    reason: str = ""
    detail: str = ""
    by: By | None = None
    made_by: Mapping[str, Any] = {}


Script = Generator[Question | list[Question], Any, list[Example]]


class Task(Component):
    """Base of the tasks."""

    lag: ClassVar[int | None] = None
    """For a task whose memory grows: a script sees what the scripts up to this many places before it have brought."""

    @abstractmethod
    def require(self, given: set[str]) -> None:
        """Raise UsageError where the source's fields are not what the task needs."""

    @abstractmethod
    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Ask about one seed. Raises UsageError that names the seed's place before the first question."""

    def remember(self, seeds: Iterable[Seed]) -> Any:
        """The memory that the scripts of one run share; None for most tasks.

        Where there is a `lag` its `now()` gives what it holds by now, to be read by a script while the memory grows.
        """
        return None

    def settle(self, example: Example, memory: Any) -> Example:
        """The last word on an example, called in order: a task with a memory takes it in, or drops it."""
        return example

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The engines its questions go to."""
        if teacher is None:
            raise UsageError("the plan has no teacher", hint="give it one: teacher: {kind: vllm, model: ...}")
        return [teacher]

    @property
    def prompt_name(self) -> str:
        """The prompt file this task asks with, for `made_by` ("" where the seed is the prompt)."""
        return ""


def answer(text: str) -> Message:
    """The assistant's turn."""
    return Message(role="assistant", content=text)


def user(text: str) -> Message:
    """The user's turn."""
    return Message(role="user", content=text)


def rendered(prompt: Prompt, seed: Seed, more: Mapping[str, Any] = {}, *, shots: bool = True) -> tuple[Message, ...]:
    """A prompt file filled with a seed's fields and `more`. Raises UsageError that names the seed's place."""
    try:
        return prompt.render({**seed.fields, **more}, shots=shots)
    except UsageError as error:
        raise UsageError(f"{seed.where}: {error}") from error
