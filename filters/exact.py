"""Exact duplicates: the same answer again, whatever its case, spacing and Unicode form."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Literal

from filters.base import Context, SetFilter
from filters.text import normal
from pipeline.records import Check, Record


class Exact(SetFilter):
    """Keeps the first of answers that are equal after normalisation; the reason names it."""

    kind: Literal["exact"] = "exact"

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """Whether the answer stood before; 16 bytes of memory a record beside its id."""
        first: dict[bytes, str] = {}
        for record in records:
            key = hashlib.blake2b(normal(record.answer).encode(), digest_size=16).digest()
            keeper = first.setdefault(key, record.id)
            yield self.yes(0) if keeper == record.id else self.no(1, "duplicate", f"duplicate of {keeper}")
