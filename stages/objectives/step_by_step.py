"""Distilling step by step (Hsieh et al. 2023, arXiv 2305.02301): the answer and the reasoning as two tasks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.errors import UsageError
from pipeline.records import Record
from stages.objectives.base import NOBODY, Given, Left, Teaching
from stages.objectives.sft import as_sft
from stages.objectives.tuning import Tuning


class StepByStep(Tuning):
    """Answer and reasoning as two tasks, told apart by a word before the prompt; for records of the task `reason`.

    alpha L(answer) + (1 - alpha) L(reasoning), each the mean over the tokens of its task in all rows. A student that is
    asked without the word answers at once: the reasoning costs nothing when it is used.
    """

    kind: Literal["step_by_step"] = "step_by_step"
    alpha: Annotated[float, Field(gt=0, lt=1, description="weight of the answers; 1 - alpha is the reasoning's")] = 0.5
    answer_prefix: Annotated[str, Field(description="before a prompt that is to be answered")] = ""
    reasoning_prefix: Annotated[str, Field(description="before a prompt whose reasoning is wanted")] = "explain: "

    @model_validator(mode="after")
    def _tells_tasks_apart(self) -> Self:
        if self.answer_prefix == self.reasoning_prefix:
            raise ValueError(
                "answer_prefix and reasoning_prefix are the same: the student could not tell what is wanted"
            )
        if self.config.get("packing"):
            raise ValueError("packing loses which task a token is of, and so its weight")
        return self

    def rows(self, given: Given) -> Iterator[dict[str, Any] | Left]:
        """Two rows a record, with their `task`; one without reasoning is left. Raises UsageError where none has any."""
        any_ = False
        for record in given.rows.read("kept"):
            if not record.reasoning.strip():
                yield Left(record.id, "no_reasoning")
                continue
            any_ = True
            yield self._task(record, "answer", self.answer_prefix, record.answer)
            yield self._task(record, "reasoning", self.reasoning_prefix, record.reasoning)
        if not any_:
            raise UsageError(
                "no record has its reasoning apart from its answer, which step_by_step learns from",
                hint="generate with `task: {kind: reason}`; or train with objective sft",
            )

    def _task(self, record: Record, task: str, prefix: str, text: str) -> dict[str, Any]:
        row = self.row(record)
        *before, asked = row["prompt"]
        prompt = [*before, asked | {"content": prefix + asked["content"]}]
        return {
            "prompt": prompt,
            "completion": [row["completion"][0] | {"content": text}],
            "task": task,
            "id": record.id,
        }

    def draft(self, *, whole: bool) -> Tuning:
        """Rows are those of `sft`."""
        return as_sft(self).draft(whole=whole)

    def trainer(
        self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int, teaching: Teaching = NOBODY
    ) -> Any:
        """A `stages.trainers.tasks.TaskTrainer`, with adapters where `lora` is given."""
        from stages.trainers.tasks import TaskTrainer

        return TaskTrainer(
            model=model, args=self.arguments(len(rows), folder, seed), train_dataset=rows, processing_class=tokenizer,
            peft_config=self.peft(), shares={"answer": self.alpha, "reasoning": 1 - self.alpha},
        )  # fmt: skip
