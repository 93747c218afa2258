"""What a task is: it turns a seed into a question, and the teacher's words into an example."""

from abc import abstractmethod
from typing import NamedTuple

from pipeline.component import Component
from pipeline.engines import Completion
from pipeline.records import Message, Seed


class Question(NamedTuple):
    """What the teacher is sent, and the part of it that the example keeps.

    Few-shot turns are left behind: the student learns to answer without them (context distillation, Askell et al.
    2021, arXiv 2112.00861).
    """

    messages: tuple[Message, ...]
    kept: tuple[Message, ...]


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
    def ask(self, seed: Seed) -> Question:
        """The conversation to send. Raises UsageError that names the seed's place."""

    def read(self, asked: Question, completion: Completion) -> Reading:
        """The example: what was asked and the answer to it."""
        messages = [*asked.kept, Message(role="assistant", content=completion.text.strip())]
        if completion.error:
            return Reading(messages, "no_answer", completion.error)
        if not completion.text.strip():
            return Reading(messages, "empty_answer")
        return Reading(messages)

    @property
    def prompt_name(self) -> str:
        """The prompt file this task asks with, for `made_by` ("" where the seed is the prompt)."""
        return ""
