"""What a training objective is: the rows it trains on, and TRL's trainer with its loss."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pipeline.component import Component
from pipeline.job import Job
from pipeline.records import Record
from pipeline.store import Version
from stages.base import Rows

if TYPE_CHECKING:
    from stages.preflight import Found

MASKED = -100  # the label of a token that teaches nothing

LearnsFrom = Literal["rows", "teacher", "stored"]
"""What an objective needs besides the rows: nothing, the teacher itself, its stored log-probabilities."""


class Fed(NamedTuple):
    """One sequence as the model gets it."""

    ids: list[int]
    labels: list[int]
    """as long as `ids`; MASKED where nothing is trained"""
    of: str = ""
    """the column whose words are trained, where a row has several of them"""


class Left(NamedTuple):
    """A record of which no row is made."""

    id: str
    reason: str
    """a slug"""


class Given(NamedTuple):
    """What rows are made from."""

    rows: Rows
    version: Callable[[str], Version | None]
    """the version of a stage that the rows come from; None where there is none, as with a file"""
    student: dict[str, Any]
    """what `stages.student.load` takes"""
    job: Job | None
    """to ask the student; None where nothing may be loaded: rows then stand in for what would be asked"""


class Model(NamedTuple):
    """A causal language model and its tokenizer."""

    model: Any
    tokenizer: Any


class Teaching(NamedTuple):
    """What teaches beside the rows."""

    teacher: Any = None
    """a frozen causal language model, for an objective that learns from the teacher"""
    stored: Any = None
    """a `stages.objectives.stored.Stored`, for one that learns from stored log-probabilities"""


NOBODY = Teaching()


class Objective(Component):
    """Base of the training objectives."""

    kind: str

    @property
    def attn_implementation(self) -> str | None:
        """The attention implementation that student and teacher need; None: their own."""
        return None

    @property
    def learns_from(self) -> LearnsFrom:
        """What is needed besides the rows."""
        return "rows"

    @abstractmethod
    def row(self, record: Record) -> dict[str, Any]:
        """One training row. Raises UsageError for a record of the wrong shape."""

    def rows(self, given: Given) -> Iterator[dict[str, Any] | Left]:
        """All training rows, each with the `id` of its record. Raises UsageError for records of the wrong shape."""
        for record in given.rows.read("kept"):
            yield self.row(record) | {"id": record.id}

    def examine(self, data: Any, teaching: Teaching) -> "list[Found]":
        """What is to be said of rows that have their tokens, uncut (a `datasets.Dataset`), and of what teaches them."""
        return []

    def require(self, student: Model, teacher: Model | None) -> None:
        """Refuse models this objective cannot train with; they have no weights. Raises UsageError.

        `teacher` is None where the objective learns from rows alone.
        """

    @abstractmethod
    def arguments(self, rows: int, folder: Path, seed: int) -> Any:
        """The trainer's `TrainingArguments` for so many rows. Raises UsageError for a name TRL does not know."""

    @abstractmethod
    def trainer(
        self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int, teaching: Teaching = NOBODY
    ) -> Any:
        """A `transformers.Trainer` over `rows` (a `datasets.Dataset`); checkpoints go to `folder`.

        `rows` are what `row` makes, with their `id`, or the `train_dataset` that a draft's trainer has made of them.
        """

    @abstractmethod
    def draft(self, *, whole: bool) -> "Objective":
        """What prepares the same rows for a model without weights: no adapters, no teacher.

        If `whole`, rows are not cut, packed or shuffled.
        """

    def fed(self, trainer: Any, row: dict[str, Any]) -> list[Fed]:
        """What a draft's collator makes of one row of its `train_dataset`, before any padding."""
        batch = trainer.data_collator([row])
        return [Fed(*pair) for pair in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)]

    def halved(self) -> Self | None:
        """The same steps from smaller batches; None where batches cannot be smaller."""
        return None

    def figures(self, trainer: Any) -> dict[str, Any]:
        """What the manifest should say of a finished training, besides steps and loss."""
        return {}

    def card(self, figures: dict[str, Any]) -> str:
        """A paragraph for the model's card, by the manifest's figures; "" for none."""
        return ""
