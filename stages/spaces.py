"""What records are compared by: a vector each, that depends on one text of the record and on a model."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.component import Component
from pipeline.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder(Protocol):
    """A loaded model."""

    def encode(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """One row per text, shape (N, D), not normalised or normalised as the model has it; any length of batch."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class Space(Component):
    """Base of what makes vectors of records. The stage keeps what was computed, by text and `meaning`."""

    def meaning(self) -> dict[str, Any]:
        """What a text's vector depends on besides the text."""
        return self.identity()

    @abstractmethod
    def weights(self) -> list[tuple[str, str]]:
        """Names and revisions of the models it loads."""

    @abstractmethod
    def of(self, record: Record) -> str:
        """All of a record that its vector depends on."""

    @abstractmethod
    def open(self) -> Encoder:
        """Load the model. Raises ModelError."""
