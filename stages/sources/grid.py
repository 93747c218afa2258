"""A template grid: every combination of the axes' values, or `count` of them drawn without repetition."""

import itertools
import math
import random
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.component import Component
from stages.sources.base import Source


class Choose(Component):
    """An axis whose values are all combinations of `choose` items of a list."""

    choose: int = Field(ge=1)
    items: list[Any] = Field(min_length=1, alias="from")

    @model_validator(mode="after")
    def _enough(self) -> "Choose":
        if self.choose > len(self.items):
            raise ValueError(f"cannot choose {self.choose} of {len(self.items)}")
        return self


class Grid(Source):
    """Combinations of the axes' values."""

    kind: Literal["grid"] = "grid"
    axes: Annotated[dict[str, list[Any] | Choose], Field(min_length=1, description="name: values")]
    count: Annotated[int | None, Field(ge=1, description="how many to draw; all when left out")] = None

    @model_validator(mode="after")
    def _not_empty(self) -> "Grid":
        for name, values in self.axes.items():
            if not values:
                raise ValueError(f"axis {name} has no values")
        if self.count and self.count > self._total():
            raise ValueError(f"count is {self.count}, but the grid has only {self._total()} combinations")
        return self

    def fields(self) -> set[str]:
        """The axes' names."""
        return set(self.axes)

    def rows(self, seed: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Combinations in drawn order; the first n of a larger draw are the draw of n."""
        axes = {n: self._values(v) for n, v in self.axes.items()}
        total = self._total()
        if self.count is None:
            for i, combination in enumerate(itertools.product(*axes.values())):
                yield dict(zip(axes, combination, strict=True)), f"grid:{i}"
            return
        drawn: set[int] = set()
        source = random.Random(seed)
        while len(drawn) < self.count:
            index = source.randrange(total)
            if index not in drawn:
                drawn.add(index)
                yield _combination(axes, index), f"grid:{index}"

    def _total(self) -> int:
        return math.prod(
            math.comb(len(v.items), v.choose) if isinstance(v, Choose) else len(v) for v in self.axes.values()
        )

    def _values(self, axis: list[Any] | Choose) -> list[Any]:
        if isinstance(axis, Choose):
            return [list(c) for c in itertools.combinations(axis.items, axis.choose)]
        return axis


def _combination(axes: dict[str, list[Any]], index: int) -> dict[str, Any]:
    """The combination at one index of the cartesian product (mixed radix)."""
    fields = {}
    for name, values in reversed(axes.items()):
        index, place = divmod(index, len(values))
        fields[name] = values[place]
    return {name: fields[name] for name in axes}
