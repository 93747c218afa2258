"""What a task is: it turns a seed into a question, and the teacher's words into an example."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.component import Component
from pipeline.engines import Completion
from pipeline.records import Message, Seed


class Reading(NamedTuple):
    """What was read from an answer. With `reason` (a slug) set, it could not be read."""

    messages: list[Message]
    reason: str = ""
    detail: str = ""


class Task(Component):
    """Base of the tasks."""

    @abstractmethod
    def require(self, given: set[str]) -> None:
        """Raise UsageError where the source's fields are not what the task needs."""

    @abstractmethod
    def ask(self, seed: Seed) -> tuple[Message, ...]:
        """The conversation to send. Raises UsageError that names the seed's place."""

    def read(self, asked: Sequence[Message], completion: Completion) -> Reading:
        """The example: what was asked and the answer to it."""
        messages = [*asked, Message(role="assistant", content=completion.text.strip())]
        if completion.error:
            return Reading(messages, "no_answer", completion.error)
        if not completion.text.strip():
            return Reading(messages, "empty_answer")
        return Reading(messages)

    @property
    def prompt_name(self) -> str:
        """The prompt file this task asks with, for `made_by` ("" where the seed is the prompt)."""
        return ""
