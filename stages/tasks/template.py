"""Fill a prompt file with the seed's fields and take the answer."""

import random
from typing import Any, Literal

from pipeline.records import Seed
from prompts import PromptFile, load
from stages.tasks.base import Example, Question, Script, Task, answer, rendered


class TemplateTask(Task):
    """A prompt file filled with each seed's fields."""

    kind: Literal["template"] = "template"
    prompt: PromptFile

    def require(self, given: set[str]) -> None:
        """Every declared need is a field of the source."""
        load(self.prompt).require(given)

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Ask with the rendered turns. The example keeps those that are no few-shot turns.

        The student learns to answer without them (context distillation, Askell et al. 2021, arXiv 2112.00861).
        """
        prompt = load(self.prompt)
        kept = rendered(prompt, seed, shots=False)
        reply = yield Question(rendered(prompt, seed), kept=kept)
        return [Example([*kept, answer(reply.text)], reply.reasoning)]

    @property
    def prompt_name(self) -> str:
        """File name and the start of its digest."""
        return load(self.prompt).name
