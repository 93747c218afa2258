"""Exact duplicates: the same text again, whatever its case, spacing and Unicode form."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from filters.base import Context, SetFilter
from filters.best import Keep, On, Ranked, texts_of
from filters.text import normal
from pipeline.records import Check, Record


class Exact(SetFilter):
    """Keeps the first, or the best, of texts that are equal after normalisation; the reason names it."""

    kind: Literal["exact"] = "exact"
    on: Annotated[On, Field(description="which text is compared; both: prompt and answer, each")] = "answer"
    keep: Keep = "first"

    @property
    def whole(self) -> bool:
        """The first is known at once, the best only at the end."""
        return self.keep != "first"

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """Whether the text stands elsewhere; 16 bytes of memory a record beside its id."""
        return self._bests(records) if self.whole else self._firsts(records)

    def _firsts(self, records: Iterable[Record]) -> Iterator[Check]:
        first: dict[bytes, str] = {}
        for record in records:
            key = self._key(record)
            keeper = first.get(key, record.id) if record.dropped else first.setdefault(key, record.id)
            yield self._check(keeper, kept=keeper == record.id)

    def _bests(self, records: Iterable[Record]) -> Iterator[Check]:
        import numpy as np

        numbers: dict[bytes, int] = {}
        groups = array("q")
        ranked = Ranked(self.keep, self.on, self.label)
        for number, record in enumerate(ranked.seen(records)):
            groups.append(numbers.setdefault(self._key(record), number))
        for number, keeper in enumerate(ranked.best(np.array(groups)).tolist()):
            yield self._check(ranked.ids[keeper], kept=keeper == number)

    def _key(self, record: Record) -> bytes:
        texts = "\x00".join(map(normal, texts_of(record, self.on)))
        return hashlib.blake2b(texts.encode(), digest_size=16).digest()

    def _check(self, keeper: str, *, kept: bool) -> Check:
        return self.yes(0) if kept else self.no(1, "duplicate", f"duplicate of {keeper}")
