"""How surprising a text is to a causal language model: garbage is, and a loop or a cliche is not at all."""

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from filters.base import Context
from filters.causal import CausalRule, Reader, Span, asked, windows
from pipeline.records import Check, Record

MOST = 1e9  # what a perplexity beyond is given as: numbers stay finite


class Perplexity(CausalRule):
    """Perplexity of a text by itself (CCNet, arXiv 1911.00359), or of the answer given what was asked.

    It depends on the model, its tokenizer and the language: choose bounds by `filter --explain` on your own rows.
    Without bounds it only measures.
    """

    bounds: ClassVar = (("min_perplexity", "min"), ("max_perplexity", "max"))

    kind: Literal["perplexity"] = "perplexity"
    on: Annotated[
        Literal["answer", "prompt", "both"], Field(description="which text is measured; both: one after the other")
    ] = "answer"
    given_prompt: Annotated[bool, Field(description="measure the answer as a reply to the turns before it")] = False
    min_perplexity: Annotated[float | None, Field(gt=0, description="drop less surprising texts")] = None
    max_perplexity: Annotated[float | None, Field(gt=0, description="drop more surprising texts")] = None

    @model_validator(mode="after")
    def _sensible(self) -> "Perplexity":
        if self.min_perplexity and self.max_perplexity and self.min_perplexity > self.max_perplexity:
            raise ValueError(f"min_perplexity {self.min_perplexity:g} is over max_perplexity {self.max_perplexity:g}")
        if self.given_prompt and self.on != "answer":
            raise ValueError("given_prompt measures answers: leave `on` out")
        return self

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One perplexity per record."""
        for window, reader in windows(records, self):
            losses = reader.losses([self._span(record, reader) for record in window])
            yield from (self._check(*loss) for loss in losses)

    def _span(self, record: Record, reader: Reader) -> Span:
        both = f"{record.prompt}\n\n{record.answer}"
        tokens = reader.tokens({"prompt": record.prompt, "answer": record.answer, "both": both}[self.on])
        return reader.after(asked(record), tokens) if self.given_prompt else reader.alone(tokens)

    def _check(self, loss: float, tokens: int) -> Check:
        if not tokens:
            return self.no(0, "no_text", "nothing to measure")
        perplexity = round(min(MOST, math.exp(min(loss / tokens, 50))), 3)
        if self.min_perplexity is not None and perplexity < self.min_perplexity:
            return self.no(perplexity, "low_perplexity", f"{perplexity:g}, under {self.min_perplexity:g}")
        if self.max_perplexity is not None and perplexity > self.max_perplexity:
            return self.no(perplexity, "high_perplexity", f"{perplexity:g}, over {self.max_perplexity:g}")
        return self.yes(perplexity)
