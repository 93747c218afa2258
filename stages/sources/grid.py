"""A template grid: combinations of attributes, all of them or `count` drawn, by weight and by condition where wanted.

axes:
  persona: [a child, an engineer]
  style: {weights: {plain: 3, playful: 1}}
  keywords: {choose: 2, from: [moon, river, apple]}
  topic: {given: persona, when: {an engineer: [bridges, engines]}, otherwise: [animals, weather]}
"""

import itertools
import math
import random
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.component import Component
from pipeline.config import nearest
from pipeline.errors import UsageError
from stages.sources.base import Source

TRIES = 10_000  # draws in a row that bring nothing new before a weighted grid counts as used up


class Choose(Component):
    """An axis whose values are all combinations of `choose` items of a list."""

    choose: int = Field(ge=1)
    items: list[Any] = Field(min_length=1, alias="from")

    @model_validator(mode="after")
    def _enough(self) -> "Choose":
        if self.choose > len(self.items):
            raise ValueError(f"cannot choose {self.choose} of {len(self.items)}")
        return self


class Weighted(Component):
    """An axis whose values are drawn by weight."""

    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)


Values = list[Any] | Choose | Weighted


class Given(Component):
    """An axis whose values depend on what another axis, named before it, has drawn."""

    given: str
    when: dict[str, Values] = Field(min_length=1)
    otherwise: Values = []


Axis = Values | Given


class Grid(Source):
    """Combinations of the axes' values."""

    kind: Literal["grid"] = "grid"
    axes: Annotated[dict[str, Axis], Field(min_length=1, description="name: values")]
    count: Annotated[int | None, Field(ge=1, description="how many to draw; all when left out")] = None

    @model_validator(mode="after")
    def _can_give(self) -> "Grid":
        for n, (name, axis) in enumerate(self.axes.items()):
            if isinstance(axis, Given):
                _conditioned(name, axis, dict(itertools.islice(self.axes.items(), n)))
            elif not _values(axis):
                raise ValueError(f"axis {name} has no values")
        if self.count is None and any(_weighted(axis) for axis in self.axes.values()):
            raise ValueError("weights mean drawing: say how many with `count`")
        if self.count and self.count > (total := _total(list(self.axes.items()), {})):
            raise ValueError(f"count is {self.count}, but the grid has only {total} combinations")
        return self

    def fields(self) -> set[str]:
        """The axes' names."""
        return set(self.axes)

    def rows(self, seed: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Combinations in drawn order, each once; the first n of a larger draw are the draw of n."""
        if self.count is None:
            for n, combination in enumerate(_all(list(self.axes.items()), {})):
                yield combination, f"grid:{n}"
        elif all(isinstance(axis, list | Choose) for axis in self.axes.values()):
            yield from self._by_index(random.Random(seed), self.count)
        else:
            yield from self._one_by_one(random.Random(seed), self.count)

    def _by_index(self, chance: random.Random, count: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Every combination as likely: places in the cartesian product."""
        axes = {name: _values(axis) for name, axis in self.axes.items()}
        total = math.prod(map(len, axes.values()))
        drawn: set[int] = set()
        while len(drawn) < count:
            index = chance.randrange(total)
            if index not in drawn:
                drawn.add(index)
                yield _combination(axes, index), f"grid:{index}"

    def _one_by_one(self, chance: random.Random, count: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Axis after axis, by weight and condition. Raises UsageError when nothing new comes any more."""
        drawn: set[str] = set()
        missed = 0
        while len(drawn) < count:
            fields: dict[str, Any] = {}
            for name, axis in self.axes.items():
                values = _possible(axis, fields)
                weights = list(values.weights.values()) if isinstance(values, Weighted) else None
                fields[name] = chance.choices(_values(values), weights)[0]
            if (identity := repr(fields)) in drawn:
                missed += 1
                if missed > TRIES:
                    raise UsageError(
                        f"the grid gave {len(drawn)} of {count} combinations and nothing new in {TRIES:,} draws",
                        hint="lower generate.source.count, or give rare values more weight",
                    )
                continue
            missed = 0
            drawn.add(identity)
            yield fields, f"grid:{len(drawn) - 1}"


def _conditioned(name: str, axis: Given, before: dict[str, Axis]) -> None:
    """Raise ValueError where a condition names what is not there."""
    parent = before.get(axis.given)
    if parent is None:
        raise ValueError(
            f"axis {name} is given {axis.given!r}, which is no axis before it{nearest(axis.given, list(before))}"
        )
    known = {str(value) for value in _everything(parent)}
    for value in axis.when:
        if value not in known:
            raise ValueError(f"axis {name}: {axis.given} is never {value!r}{nearest(value, sorted(known))}")
    for value in sorted(known - axis.when.keys()):
        if not _values(axis.otherwise):
            raise ValueError(f"axis {name} has no values when {axis.given} is {value!r}: add it, or `otherwise`")


def _everything(axis: Axis) -> list[Any]:
    """Every value an axis may have, whatever it depends on."""
    if isinstance(axis, Given):
        return [value for values in (*axis.when.values(), axis.otherwise) for value in _values(values)]
    return _values(axis)


def _possible(axis: Axis, fields: dict[str, Any]) -> Values:
    """An axis once what it depends on is drawn."""
    return axis.when.get(str(fields[axis.given]), axis.otherwise) if isinstance(axis, Given) else axis


def _values(values: Axis) -> list[Any]:
    match values:
        case Choose():
            return [list(c) for c in itertools.combinations(values.items, values.choose)]
        case Weighted():
            return list(values.weights)
        case list():
            return values
    return []


def _weighted(axis: Axis) -> bool:
    inside = [*axis.when.values(), axis.otherwise] if isinstance(axis, Given) else [axis]
    return any(isinstance(values, Weighted) for values in inside)


def _total(axes: list[tuple[str, Axis]], fields: dict[str, Any]) -> int:
    """How many combinations there are; only axes that others depend on are gone through value by value."""
    if not axes:
        return 1
    (name, axis), rest = axes[0], axes[1:]
    values = _possible(axis, fields)
    size = math.comb(len(values.items), values.choose) if isinstance(values, Choose) else len(_values(values))
    if any(isinstance(later, Given) and later.given == name for _, later in rest):
        return sum(_total(rest, fields | {name: value}) for value in _values(values))
    return size * _total(rest, fields)


def _all(axes: list[tuple[str, Axis]], fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not axes:
        yield fields
        return
    (name, axis), rest = axes[0], axes[1:]
    for value in _values(_possible(axis, fields)):
        yield from _all(rest, fields | {name: value})


def _combination(axes: dict[str, list[Any]], index: int) -> dict[str, Any]:
    """The combination at one index of the cartesian product (mixed radix)."""
    fields = {}
    for name, values in reversed(axes.items()):
        index, place = divmod(index, len(values))
        fields[name] = values[place]
    return {name: fields[name] for name in axes}
