"""Sampling that varies from request to request: a setting may be a number, a list or a range."""

import random
from functools import cached_property
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.component import Component
from pipeline.engines import Sampling


class Range(Component):
    """Any number from one end to the other, each as likely."""

    low: float = Field(alias="from")
    high: float = Field(alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"from {self.low:g} is above to {self.high:g}")
        return self


Varied = float | Annotated[list[float], Field(min_length=1)] | Range
VARIED = ("temperature", "top_p")


class VariedSampling(Sampling):
    """As `Sampling`; `temperature` and `top_p` may be a list (taken in turn) or a range `{from: 0.6, to: 1.0}`."""

    temperature: Varied = 1.0  # type: ignore[assignment]
    top_p: Varied = 1.0  # type: ignore[assignment]
    top_logprobs: Annotated[
        int, Field(ge=0, le=1000, description="store the log-probabilities of all tokens, and of so many alternatives")
    ] = 0

    @model_validator(mode="after")
    def _every_value_is_one(self) -> "VariedSampling":
        for name in VARIED:
            for value in _ends(getattr(self, name)):
                Sampling.model_validate({name: value})
        return self

    @cached_property
    def fixed(self) -> Sampling | None:
        """The sampling of all requests, where nothing varies."""
        if any(isinstance(getattr(self, name), list | Range) for name in VARIED):
            return None
        return Sampling.model_validate({name: getattr(self, name) for name in Sampling.model_fields})

    def draw(self, chance: random.Random, sample: int) -> Sampling:
        """One request's sampling. Samples of one seed walk through a list from a place that `chance` decides."""
        drawn = {name: _draw(getattr(self, name), chance, sample) for name in VARIED}
        plain = {name: getattr(self, name) for name in Sampling.model_fields}
        return Sampling.model_validate(plain | drawn)


def _ends(value: Varied) -> list[float]:
    if isinstance(value, Range):
        return [value.low, value.high]
    return value if isinstance(value, list) else [value]


def _draw(value: Varied, chance: random.Random, sample: int) -> float:
    if isinstance(value, Range):
        return round(chance.uniform(value.low, value.high), 4)
    if isinstance(value, list):
        return value[(chance.randrange(len(value)) + sample) % len(value)]
    return value
