"""Items that a text may say in other words: near in an embedding, with the same rare words and numbers."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from filters.overlap import SHORTEST, cleaned
from filters.references import Item
from filters.shingles import tokenize
from pipeline.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 256  # records embedded together
COMMON = 0.02  # of the items: words in more of them are not rare


class Candidate(NamedTuple):
    """The item nearest to a text; larger is nearer."""

    cosine: float
    kept: float
    """share of the item's rare words and numbers that stand in the text, too"""
    where: str
    text: str


class Rephrased(Embedder):
    """Which sentence-transformers model proposes candidates, and what confirms them."""

    min_cosine: Annotated[float, Field(gt=0, le=1, description="similarity of a candidate")] = 0.8
    min_kept: Annotated[
        float, Field(ge=0, le=1, description="share of the item's rare words and numbers that confirms it; 0: no need")
    ] = 0.25

    def finder(self, items: Iterable[Item]) -> "Finder":
        """A loaded model over the embedded items."""
        return Finder(self, items)


class Finder:
    """Embedded items."""

    def __init__(self, settings: Rephrased, items: Iterable[Item]) -> None:
        import numpy as np

        self._encoder = settings.open()
        unique = {item.text: item for item in items}
        tokens = tokenize([cleaned(text) for text in unique])
        sizes = np.diff(tokens.rows)
        self._items = [item for item, size in zip(unique.values(), sizes, strict=True) if size >= SHORTEST]
        words = [np.unique(tokens.hashes[a:b]) for a, b in zip(tokens.rows, tokens.rows[1:], strict=False)]
        words = [own for own, size in zip(words, sizes, strict=True) if size >= SHORTEST]
        self._words = _rare(words)
        self._vectors = self._encoder.encode([item.text for item in self._items])

    def candidates(self, texts: Sequence[str]) -> list[Candidate]:
        """For each text the nearest item."""
        import numpy as np

        near = self._encoder.encode(texts) @ self._vectors.T
        tokens = tokenize([cleaned(text) for text in texts])
        found = []
        for row, item in enumerate(near.argmax(1).tolist()):
            words, mine = self._words[item], tokens.hashes[tokens.rows[row] : tokens.rows[row + 1]]
            kept = float(np.isin(words, mine).mean()) if len(words) else 0.0
            found.append(Candidate(round(float(near[row, item]), 4), kept, *self._items[item]))
        return found


def _rare(items: "list[NDArray[np.uint64]]") -> "list[NDArray[np.uint64]]":
    """The words of each item that stand in few of the others; all of them where none is rare."""
    import numpy as np

    words, counts = np.unique(np.concatenate(items), return_counts=True)
    common = words[counts > max(3, COMMON * len(items))]
    rare = [own[~np.isin(own, common)] for own in items]
    return [few if len(few) else own for few, own in zip(rare, items, strict=True)]
