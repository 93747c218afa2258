"""Items that a text may say in other words: near in an embedding, with the same rare words and numbers."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from filters.overlap import SHORTEST, cleaned
from filters.references import Item
from filters.shingles import tokenize
from pipeline import console, models
from pipeline.component import Component, Knob
from pipeline.errors import ModelError

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


class Rephrased(Component):
    """Which sentence-transformers model proposes candidates, and what confirms them."""

    model: Annotated[str, Field(description="Hub id, local path or demo: name")] = "demo:all-minilm-l6-v2"
    revision: str = ""
    min_cosine: Annotated[float, Field(gt=0, le=1, description="similarity of a candidate")] = 0.8
    min_kept: Annotated[
        float, Field(ge=0, le=1, description="share of the item's rare words and numbers that confirms it; 0: no need")
    ] = 0.25
    batch_size: Annotated[int, Knob(), Field(ge=1)] = 32

    def identity(self) -> dict[str, Any]:
        """The model by its content."""
        try:
            return super().identity() | {"weights": models.find(self.model, self.revision).revision}
        except ModelError:  # said when it is needed
            return super().identity()

    def finder(self, items: Iterable[Item]) -> "Finder":
        """A loaded model over the embedded items."""
        return Finder(self, items)


class Finder:
    """Embedded items."""

    def __init__(self, settings: Rephrased, items: Iterable[Item]) -> None:
        import numpy as np

        self._settings, self._model = settings, _load(settings)
        unique = {item.text: item for item in items}
        tokens = tokenize([cleaned(text) for text in unique])
        sizes = np.diff(tokens.rows)
        self._items = [item for item, size in zip(unique.values(), sizes, strict=True) if size >= SHORTEST]
        words = [np.unique(tokens.hashes[a:b]) for a, b in zip(tokens.rows, tokens.rows[1:], strict=False)]
        words = [own for own, size in zip(words, sizes, strict=True) if size >= SHORTEST]
        self._words = _rare(words)
        self._vectors = self._encode([item.text for item in self._items])

    def candidates(self, texts: Sequence[str]) -> list[Candidate]:
        """For each text the nearest item."""
        import numpy as np

        near = self._encode(texts) @ self._vectors.T
        tokens = tokenize([cleaned(text) for text in texts])
        found = []
        for row, item in enumerate(near.argmax(1).tolist()):
            words, mine = self._words[item], tokens.hashes[tokens.rows[row] : tokens.rows[row + 1]]
            kept = float(np.isin(words, mine).mean()) if len(words) else 0.0
            found.append(Candidate(round(float(near[row, item]), 4), kept, *self._items[item]))
        return found

    def _encode(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        vectors = self._model.encode(
            list(texts), batch_size=self._settings.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)


def _rare(items: "list[NDArray[np.uint64]]") -> "list[NDArray[np.uint64]]":
    """The words of each item that stand in few of the others; all of them where none is rare."""
    import numpy as np

    words, counts = np.unique(np.concatenate(items), return_counts=True)
    common = words[counts > max(3, COMMON * len(items))]
    rare = [own[~np.isin(own, common)] for own in items]
    return [few if len(few) else own for few, own in zip(rare, items, strict=True)]


def _load(settings: Rephrased) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found = models.ensure(settings.model, settings.revision)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        hint = "pip install 'pipeline[embed]'"
        raise ModelError(f"sentence-transformers is not installed ({error})", hint=hint) from error
    revision = None if found.local else settings.revision or None
    with console.silenced(None):
        try:
            return SentenceTransformer(found.where, revision=revision, model_kwargs={"use_safetensors": True})
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"cannot load the embedding model {settings.model}: {error}") from error
