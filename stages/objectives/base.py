"""What an objective is: the columns it trains on and the TRL trainer with its loss."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, NamedTuple, Self

from pipeline.component import Component
from pipeline.records import Record

MASKED = -100  # the label of a token that teaches nothing


class Fed(NamedTuple):
    """One sequence as the model gets it."""

    ids: list[int]
    labels: list[int]
    """as long as `ids`; MASKED where nothing is trained"""


class Objective(Component):
    """Base of the training objectives."""

    @abstractmethod
    def row(self, record: Record) -> dict[str, Any]:
        """One training row. Raises UsageError for a record of the wrong shape."""

    @abstractmethod
    def arguments(self, rows: int, folder: Path, seed: int) -> Any:
        """The trainer's `TrainingArguments` for so many rows. Raises UsageError for a name TRL does not know."""

    @abstractmethod
    def trainer(self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int) -> Any:
        """A `transformers.Trainer` over `rows` (a `datasets.Dataset`); checkpoints go to `folder`.

        `rows` are what `row` makes, with their `id`, or the `train_dataset` that a draft's trainer has made of them.
        """

    @abstractmethod
    def draft(self, *, whole: bool) -> Self:
        """The same for a model without weights: no adapters; if `whole`, rows are not cut, packed or shuffled."""

    def fed(self, trainer: Any, row: dict[str, Any]) -> list[Fed]:
        """What the trainer's collator makes of one row of its `train_dataset`, before any padding."""
        batch = trainer.data_collator([row])
        return [Fed(*pair) for pair in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)]
