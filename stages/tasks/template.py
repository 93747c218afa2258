"""Fill a prompt file with the seed's fields and take the answer."""

from typing import Literal

from pipeline.errors import UsageError
from pipeline.records import Seed
from prompts import PromptFile, load
from stages.tasks.base import Question, Task


class TemplateTask(Task):
    """A prompt file filled with each seed's fields."""

    kind: Literal["template"] = "template"
    prompt: PromptFile

    def require(self, given: set[str]) -> None:
        """Every declared need is a field of the source."""
        load(self.prompt).require(given)

    def ask(self, seed: Seed) -> Question:
        """The rendered turns; the example keeps those that are no few-shot turns."""
        prompt = load(self.prompt)
        try:
            return Question(prompt.render(seed.fields), prompt.render(seed.fields, shots=False))
        except UsageError as error:
            raise UsageError(f"{seed.where}: {error}") from error

    @property
    def prompt_name(self) -> str:
        """File name and the start of its digest."""
        return load(self.prompt).name
