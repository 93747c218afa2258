"""What an objective is: the columns it trains on and the TRL trainer with its loss."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from pipeline.component import Component
from pipeline.records import Record


class Objective(Component):
    """Base of the training objectives."""

    @abstractmethod
    def row(self, record: Record) -> dict[str, Any]:
        """One training row. Raises UsageError for a record of the wrong shape."""

    @abstractmethod
    def trainer(self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int) -> Any:
        """A `transformers.Trainer` over `rows` (a `datasets.Dataset`); checkpoints go to `folder`."""
