"""Exact duplicates: the same text again, whatever its case, spacing and Unicode form."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from filters.base import Context, SetFilter
from filters.best import Keep, On, Ranked, text_of
from filters.text import normal
from pipeline.records import Check, Record


class Exact(SetFilter):
    """Keeps the first, or the best, of texts that are equal after normalisation; the reason names it."""

    kind: Literal["exact"] = "exact"
    on: Annotated[On, Field(description="which text is compared; both: prompt and answer as one")] = "answer"
    keep: Keep = "first"

    @property
    def whole(self) -> bool:
        """The first is known at once, the best only at the end."""
        return self.keep != "first"

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """Whether the text stands elsewhere; 16 bytes of memory a record beside its id."""
        numbers: dict[bytes, int] = {}
        if not self.whole:
            yield from self._firsts(records)
            return
        import numpy as np

        ranked, groups = Ranked(self.keep, self.on, self.label), []
        for number, record in enumerate(records):
            groups.append(numbers.setdefault(self._key(record), number))
            ranked.see([record])
        for number, keeper in enumerate(ranked.best(np.asarray(groups, np.int64)).tolist()):
            yield self._check(ranked.ids[keeper], kept=keeper == number)

    def _firsts(self, records: Iterable[Record]) -> Iterator[Check]:
        first: dict[bytes, str] = {}
        for record in records:
            keeper = first.setdefault(self._key(record), record.id)
            yield self._check(keeper, kept=keeper == record.id)

    def _key(self, record: Record) -> bytes:
        text = normal(text_of(record, self.on))
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def _check(self, keeper: str, *, kept: bool) -> Check:
        return self.yes(0) if kept else self.no(1, "duplicate", f"duplicate of {keeper}")
