"""A TRL trainer for rows of several tasks, each with its share of the loss however many tokens it has."""

from collections import Counter
from typing import Any, ClassVar

import torch

from stages.objectives.base import MASKED
from stages.trainers.positions import Places, TrainedPositions, collate_also


class TaskTrainer(TrainedPositions):
    """Cross-entropy in which a token of a task weighs share / (the task's share of all trained tokens).

    Summed over all rows, each task then counts with the mean over its own tokens; the weights do not hang on the batch,
    so neither do accumulated gradients.
    """

    beside: ClassVar[tuple[str, ...]] = ("task_weights",)

    def __init__(self, *args: Any, shares: dict[str, float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        collate_also(self, "task")
        counts: Counter[str] = Counter()
        for row in self.train_dataset:
            counts[row["task"]] += sum(label != MASKED for label in row["labels"])
        self._weights = {task: shares[task] * counts.total() / max(1, count) for task, count in counts.items()}
        self._base: Any = self.data_collator
        self.data_collator: Any = self._collated

    def _collated(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self._base(examples)
        return batch | {"task_weights": torch.tensor([self._weights[example["task"]] for example in examples])}

    def token_losses(self, logits: Any, there: Places, beside: dict[str, Any]) -> Any:
        """Cross-entropy of each trained token, by the weight of its row."""
        rows = there.trained.nonzero()[:, 0]
        return super().token_losses(logits, there, beside) * beside["task_weights"][rows]
