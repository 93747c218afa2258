"""What is measured on a model's answers: a family of metrics reads one paper and gives a column a metric."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pipeline.records import Record
from stages.bootstrap import Column

Better = Literal["higher", "lower", ""]
"""Which way is better; "" where neither is."""
Style = Literal["number", "share", "perplexity", "bits"]
"""How a value is printed. A perplexity is the exponential of the mean that it comes from."""


class Metric(NamedTuple):
    """The name in files, the words in tables, and how to read its values."""

    name: str
    label: str
    better: Better = "higher"
    style: Style = "number"
    on: str = "prompt"
    """what a column has a place for: each `prompt`, `human` text, `probe`, item of `lm_eval/TASK`"""

    def value(self, mean: float) -> float:
        """The metric's value from the weighted mean of its column."""
        if self.style != "perplexity":
            return mean
        return math.exp(mean) if mean < 700 else math.inf


class Loss(NamedTuple):
    """Summed cross-entropy of a text in nats, its tokens and its bytes."""

    nats: float
    tokens: int
    bytes: int


class Example(NamedTuple):
    """A held-out prompt, as the first record that asks it, and every held-out answer to it."""

    record: Record
    references: tuple[str, ...]

    def said(self, answer: str) -> Record:
        """The record with another answer."""
        messages = list(self.record.messages)
        if messages[-1].role == "assistant":
            messages[-1] = messages[-1].model_copy(update={"content": answer})
        return self.record.model_copy(update={"messages": messages})


class Paper(NamedTuple):
    """What one model wrote. `losses` has a place an example; `answers` and `ended` have one for each of the first few.

    `own`: the answers are the held-out ones themselves, since the model is on a server.
    """

    examples: Sequence[Example]
    answers: Sequence[str]
    ended: Sequence[bool] = ()
    losses: Sequence[Loss] = ()
    own: bool = False

    @property
    def answered(self) -> Sequence[Example]:
        """The examples that were answered."""
        return self.examples[: len(self.answers)]


Columns = dict[Metric, Column]
Family = Callable[[Paper], Columns]
