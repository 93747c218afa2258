"""Instruction-following difficulty (Li et al. 2024, Cherry LLM, arXiv 2308.12032): does the question help?

The mean loss of the answer given the question over that of the answer alone. Near 0 the question gives the answer
away; near 1 it hardly helps, so there is something to learn; over 1 it misleads: the two do not belong together.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from filters.base import Context
from filters.causal import CausalRule, Span, asked, windows
from pipeline.records import Check, Record


class Ifd(CausalRule):
    """Drops answers that are likelier without their question, and those the question gives away.

    As in the paper one over 1 is dropped, and the highest under 1 teach most. `keep` and curate may choose by it.
    """

    bounds: ClassVar = (("min_ifd", "min"), ("max_ifd", "max"))

    kind: Literal["ifd"] = "ifd"
    min_ifd: Annotated[float | None, Field(ge=0, description="drop answers that need less learning")] = None
    max_ifd: Annotated[float | None, Field(gt=0, description="drop answers that fit their question less")] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> "Ifd":
        if self.min_ifd is not None and self.max_ifd is not None and self.min_ifd > self.max_ifd:
            raise ValueError(f"min_ifd {self.min_ifd:g} is over max_ifd {self.max_ifd:g}")
        return self

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One ratio per record."""
        for window, reader in windows(records, self):
            spans: list[Span] = []
            for record in window:
                spans += reader.pair(asked(record), reader.tokens(record.answer))
            losses = reader.losses(spans)
            for (given, tokens), (alone, _) in zip(losses[::2], losses[1::2], strict=True):
                yield self._check(given, alone, tokens)

    def _check(self, given: float, alone: float, tokens: int) -> Check:
        if not tokens:
            return self.no(0, "no_text", "the answer holds nothing to measure")
        ifd = round(given / alone, 4) if alone > 0 else 1.0
        detail = f"loss {given / tokens:.2f} with the question, {alone / tokens:.2f} without"
        if self.min_ifd is not None and ifd < self.min_ifd:
            return self.no(ifd, "low_ifd", detail)
        if self.max_ifd is not None and ifd > self.max_ifd:
            return self.no(ifd, "high_ifd", detail)
        return self.yes(ifd, detail)
