"""What a source is: it yields seeds, one per thing to ask about."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from pipeline.component import Component
from pipeline.records import Seed, digest


class Source(Component):
    """Base of the sources."""

    @abstractmethod
    def fields(self) -> set[str]:
        """Names every seed carries, known before anything is asked."""

    @abstractmethod
    def rows(self, seed: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Fields and the place they were read from, in an order that `seed` alone decides.

        Asking for more rows must only add rows at the end, so that a larger `count` keeps the others.
        """

    def side(self, fields: dict[str, Any]) -> Any:
        """What decides the side of the split: rows that are alike in this fall on one side."""
        return fields

    def seeds(self, seed: int, heldout: float) -> Iterator[Seed]:
        """Rows with ids and their side of the split. Equal rows get different ids."""
        seen: dict[str, int] = {}
        for fields, where in self.rows(seed):
            identity = digest(fields)
            seen[identity] = seen.get(identity, 0) + 1
            if seen[identity] > 1:
                identity = digest([identity, seen[identity]])
            yield Seed(identity, fields, where, "heldout" if _share(seed, self.side(fields)) < heldout else "train")


def _share(seed: int, side: Any) -> float:
    """A number in [0, 1) that depends on the row's content only."""
    return int(digest(["split", seed, side]), 16) / 2**64
