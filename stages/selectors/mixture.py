"""Quotas by a field, so that a mixture of tasks, sources or languages is what the plan says it is."""

import re
from collections.abc import Mapping, Set
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pipeline.errors import PipelineError
from pipeline.records import Record
from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.cluster import Cluster
from stages.selectors.plain import Plain
from stages.spaces import Space

UNKNOWN = "unknown"
SHOWN = 20  # groups an error names


def _field(by: str) -> str:
    if not re.fullmatch(r"meta\..+|[a-z][a-z0-9_]*", by):
        raise ValueError(f"{by!r} names nothing of a record: write task, model, meta.NAME or a check's name")
    return by


By = Annotated[str, AfterValidator(_field)]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Mixture(Selector):
    """Quotas by a field, and another selector within each group.

    A group with fewer records than its quota leaves the rest to the others, in proportion to their quotas.
    """

    kind: Literal["mixture"] = "mixture"
    by: Annotated[By, Field(description="what groups records: task, model, meta.NAME, or the value of the check NAME")]
    shares: Annotated[
        dict[str, Share],
        Field(description="of each group: parts of the whole, or weights where they sum to more than 1"),
    ] = {}
    others: Annotated[
        Literal["proportional", "equal", "none"],
        Field(description="how groups without a share divide what shares under 1 leave: by size, equally, not at all"),
    ] = "proportional"
    within: Annotated[Plain, Field(description="the selector within each group")] = Cluster()

    @model_validator(mode="after")
    def _weighs(self) -> "Mixture":
        if self.others == "none" and not any(self.shares.values()):
            raise ValueError("`others: none` needs a share over 0 in `shares`")
        return self

    def label(self, record: Record) -> str:
        """The group's name; `unknown` where the record does not have the field."""
        found: Any
        match self.by.partition("."):
            case ("task", "", _):
                found = record.task
            case ("model", "", _):
                found = record.made_by.model
            case ("meta", ".", name):
                found = record.meta.get(name)
            case _:
                found = record.scored(self.by)
        return UNKNOWN if found in (None, "") else f"{found:g}" if isinstance(found, float) else str(found)

    def space(self) -> Space | None:
        """That of the selector within."""
        return self.within.space()

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Groups in turns, as often as their quotas have it; a group that is gone leaves its quota to the others."""
        inside: dict[str, list[int]] = {}
        for i, label in enumerate(candidates.labels):
            inside.setdefault(label, []).append(i)
        sizes = {name: len(group) for name, group in inside.items()}
        quotas = divide(min(keep, len(candidates.ids)), sizes, self._weights(sizes))
        found = [Choice(0, "no_quota", f"group {label}") for label in candidates.labels]
        turns: list[tuple[float, str, int]] = []
        for name, quota in quotas.items():
            if quota == 0:
                continue
            for i, choice in zip(inside[name], self._within(candidates, inside[name], quota, seed), strict=True):
                found[i] = choice._replace(detail="; ".join(filter(None, [f"group {name}", choice.detail])))
                if choice.chosen:
                    turns.append(((choice.rank - 0.5) / quota, name, i))
        for rank, (_, _, i) in enumerate(sorted(turns), 1):
            found[i] = found[i]._replace(rank=rank)
        return found

    def _within(self, candidates: Candidates, inside: list[int], quota: int, seed: int) -> list[Choice]:
        ids, vectors, scores, labels, features = candidates
        mine = vectors[inside]
        theirs = mine if features is vectors else features[inside]
        group = Candidates([ids[i] for i in inside], mine, scores[inside], [labels[i] for i in inside], theirs)
        return self.within.pick(group, quota, seed)

    def require(self, labels: Set[str]) -> None:
        """Raises PipelineError for a share of no group."""
        if strange := sorted(set(self.shares) - labels):
            there = sorted(labels)
            more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
            raise PipelineError(
                f"`select: mixture` has a share for {', '.join(strange)}, but no record's `{self.by}` is that",
                hint=f"groups there are: {', '.join(there[:SHOWN])}{more}",
            )

    def _weights(self, sizes: Mapping[str, int]) -> dict[str, Fraction]:
        """Parts of the whole for every group."""
        given = {name: Fraction(str(share)) for name, share in self.shares.items()}
        rest = [name for name in sizes if name not in given]
        left = max(Fraction(0), 1 - sum(given.values())) if self.others != "none" else Fraction(0)
        size = {name: sizes[name] if self.others == "proportional" else 1 for name in rest}
        return given | {name: left * Fraction(size[name], sum(size.values())) for name in rest}


def divide(keep: int, sizes: Mapping[str, int], weights: Mapping[str, Fraction]) -> dict[str, int]:
    """Parts of `keep` by weight, none larger than its size; largest remainders round up, ties by name.

    Groups without weight get what the others cannot take, by size. `keep` is at most the sum of sizes.
    """
    parts = {name: Fraction(0) for name in sizes}
    for stage in (weights, sizes):
        open_ = {name for name in sizes if stage[name] > 0 and parts[name] < sizes[name]}
        while open_ and (left := keep - sum(parts.values())) > 0:
            whole = sum(Fraction(stage[name]) for name in open_)
            fits = {name: sizes[name] - parts[name] for name in open_}
            full = {name for name in open_ if left * stage[name] / whole >= fits[name]}
            for name in full or open_:
                parts[name] += fits[name] if full else left * Fraction(stage[name]) / whole
            open_ -= full
    quotas = {name: int(part) for name, part in parts.items()}
    order = sorted(sizes, key=lambda name: (quotas[name] - parts[name], name))
    for name in order[: keep - sum(quotas.values())]:
        quotas[name] += 1
    return quotas
