"""Answer the seed's own prompt or conversation."""

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from pipeline.config import nearest
from pipeline.errors import UsageError
from pipeline.records import Message, Seed
from stages.tasks.base import Question, Task


class Respond(Task):
    """The teacher answers the seed's `prompt` (text) or `messages` (a conversation that ends with a user turn)."""

    kind: Literal["respond"] = "respond"
    field: Annotated[str, Field(description="the seed's field that holds the prompt or the messages")] = "prompt"
    system: Annotated[str, Field(description="a system turn to put first")] = ""

    def require(self, given: set[str]) -> None:
        """The field is one the source gives."""
        if self.field not in given:
            raise UsageError(
                f"task respond asks with the field {self.field!r}, which the source does not give"
                f"{nearest(self.field, sorted(given))}"
            )

    def ask(self, seed: Seed) -> Question:
        """The seed's prompt as a user turn, or its messages as they are."""
        value = seed.fields.get(self.field)
        first = [Message(role="system", content=self.system)] if self.system else []
        if isinstance(value, str) and value.strip():
            return _whole(*first, Message(role="user", content=value))
        if isinstance(value, list) and value:
            try:
                turns = [Message.model_validate(turn) for turn in value]
            except ValidationError as error:
                raise UsageError(f"{seed.where}: {self.field} is not a list of role and content") from error
            if turns[-1].role == "user":
                return _whole(*first, *turns)
        raise UsageError(f"{seed.where}: {self.field} holds neither a prompt nor messages that end with a user turn")


def _whole(*messages: Message) -> Question:
    return Question(messages, messages)
