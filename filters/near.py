"""Near-duplicates: texts that share most of their shingles, of which the best is kept.

What it cannot see: the same thing said in other words. Embeddings (the curate stage) do.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from filters.base import Context, SetFilter
from filters.best import Keep, On, Ranked, texts_of
from filters.shingles import Unit, batches
from filters.similar import Group, Index, Shape
from pipeline.records import Check, Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORDS, CHARACTERS = 3, 5


class Near(SetFilter):
    """Keeps the best of each group of near-duplicates; the reason names it and how similar the dropped one is.

    Similarity is the Jaccard measure of shingles: of `n` words, or characters in Hangul, Han and kana. With three
    words a shingle, a text in which every twentieth word was changed has about 0.74. Groups are linked: of a, b and c
    one is kept where a is like b and b like c. A passing record's value is the highest similarity found below the
    threshold, of pairs that looked alike at all.
    """

    bounds: ClassVar = (("max_similarity", "max"),)

    kind: Literal["near"] = "near"
    on: Annotated[On, Field(description="which text is compared; both: each row as a whole, and its answer")] = "both"
    max_similarity: Annotated[float, Field(ge=0.1, lt=1, description="over this Jaccard similarity")] = 0.6
    keep: Keep = "first"
    shingles: Annotated[Unit, Field(description="auto: words, but characters of Hangul, Han and kana")] = "auto"
    n: Annotated[int | None, Field(ge=1, le=50, description="tokens in a shingle; 3 words, 5 characters")] = None

    @property
    def whole(self) -> bool:
        """The last record may link the first two."""
        return True

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One check per record after the last was seen; about 250 bytes of memory a record."""
        ranked = Ranked(self.keep, self.on, self.label)
        shape = Shape(self.shingles, self.n or WORDS, self.n or CHARACTERS)
        parts = 2 if self.on == "both" else 1
        with closing(Index(self.max_similarity, shape, parts)) as index:
            texts = (text for record in ranked.seen(records) for text in texts_of(record, self.on))
            for batch in batches(texts, parts):
                index.add(batch)
            found = index.groups(ranked.live)
            best = ranked.best(found.roots)
            for number, (keeper, alike) in enumerate(zip(best.tolist(), _to_best(index, best), strict=True)):
                yield self._check(number, keeper, alike, found, ranked.ids)

    def _check(self, number: int, keeper: int, alike: float, found: Group, ids: list[str]) -> Check:
        linked, link = round(float(found.linked[number]), 4), ids[int(found.link[number])]
        if keeper != number:
            through = f", {linked:.2f} to {link} of its group" if alike <= self.max_similarity else ""
            return self.no(max(alike, linked), "near_duplicate", f"{alike:.2f} similar to {ids[keeper]}{through}")
        if not found.live[number] and linked:
            return self.no(linked, "near_duplicate", f"{linked:.2f} similar to {link}")
        return self.yes(round(float(found.apart[number]), 4))


def _to_best(index: Index, best: "NDArray[np.int64]") -> list[float]:
    """How similar each record is to the best of its group; 0 for the best."""
    import numpy as np

    alike = np.zeros(len(best))
    lost = np.flatnonzero(best != np.arange(len(best)))
    alike[lost] = index.similarity(lost, best[lost])
    rounded: list[float] = np.round(alike, 4).tolist()
    return rounded
