"""What a stage measured on a record: each rule's value beside the bounds it was held against, and the judges' votes.

Bounds are those of the version's own settings. Where the plan still has the very same rule, further measures of the
text are taken again, and what a judge was asked and said is looked up.
"""

import math
from collections.abc import Iterator
from typing import Any, get_args

import orjson

from filters import AnyFilter
from filters.base import Measure, Rule, SetFilter
from pipeline.component import kind_of, members
from pipeline.errors import PipelineError
from pipeline.records import Check, Record
from pipeline.run import Run
from pipeline.store import Version
from stages import recall
from stages.filter import FilterStage
from stages.generate import Generate
from stages.plan import Plan
from stages.whence import Told

KINDS = {kind_of(member): member for member in members(get_args(AnyFilter)[0])}


class Bound(Told):
    """A setting that bounds a value, and the value it was held against."""

    setting: str
    side: str
    bound: float
    value: float

    @property
    def held(self) -> bool:
        """Whether the value keeps to it."""
        return self.value >= self.bound if self.side == "min" else self.value <= self.bound


class Vote(Told):
    """One verdict: what the judge said, and how likely each choice was where that is known."""

    model: str
    said: str
    reasoning: str
    shares: dict[str, float]


class Measured(Told):
    """One check of the record. `measured` False: the rule never saw it, since an earlier one had dropped it."""

    name: str
    measured: bool
    value: float = 0.0
    passed: bool = True
    reason: str = ""
    detail: str = ""
    bounds: list[Bound] = []
    asked: list[dict[str, str]] = []
    """what a judge was asked, where the memo knows"""
    votes: list[Vote] = []


def measured(plan: Plan, run: Run, version: Version, record: Record, before: Record | None) -> list[Measured]:
    """What a version measured: its rules in their order, then what else is new since `before`."""
    settings = {_label(rule): rule for rule in _rules(version)}
    same = {rule.label: rule for rule in _own(plan, version) if _plain(rule) == settings.get(rule.label)}
    found = [_by_rule(plan, run, record, settings[name], same.get(name)) for name in settings]
    known = before.checks if before else []
    others = [c for c in record.checks if c.name not in settings and c not in known]
    return [*map(_bare, others), *found]


def _rules(version: Version) -> list[dict[str, Any]]:
    """The settings of the rules a version was made with."""
    made_with = version.manifest.settings.get(version.manifest.stage, {})
    if version.manifest.stage == "generate":
        made_with = made_with.get("count") or {}
    return list(made_with.get("rules") or [])


def _own(plan: Plan, version: Version) -> list[Any]:
    """The plan's rules of that stage by now."""
    match plan.stages().get(version.manifest.stage):
        case FilterStage() as stage:
            return list(stage.rules)
        case Generate() as stage:
            return list(stage.accepts)
    return []


def _label(rule: dict[str, Any]) -> str:
    return str(rule.get("name") or rule["kind"])


def _plain(rule: Rule) -> Any:
    return orjson.loads(orjson.dumps(rule.identity()))


def _by_rule(plan: Plan, run: Run, record: Record, settings: dict[str, Any], rule: Rule | None) -> Measured:
    check = next((c for c in record.checks if c.name == _label(settings)), None)
    if check is None:
        return Measured(name=_label(settings), measured=False)
    asked: list[dict[str, str]] = []
    votes: list[Vote] = []
    if isinstance(rule, SetFilter) and rule.asking:
        try:
            heard = recall.judge(plan, run, record, rule)
        except PipelineError:  # its model is not on this machine: no key can be made
            heard = []
        answered = [one for one in heard if one.completion is not None]
        asked = [m.model_dump() for m in answered[0].request.messages] if answered else []
        votes = list(map(_vote, answered))
    taken = rule.measures(record) if rule is not None else _bounded(settings, check)
    bounds = [Bound(**one._asdict()) for one in taken]
    return _bare(check).model_copy(update={"bounds": bounds, "asked": asked, "votes": votes})


def _bare(check: Check) -> Measured:
    return Measured(measured=True, **check.model_dump())


def _bounded(settings: dict[str, Any], check: Check) -> Iterator[Measure]:
    """The bounds of a check's value as they were set."""
    kind = KINDS.get(settings["kind"])
    for setting, side in kind.bounds if kind is not None and issubclass(kind, Rule) else ():
        if isinstance(bound := settings.get(setting), int | float):
            yield Measure(setting, side, float(bound), check.value)


def _vote(one: recall.Exchange) -> Vote:
    assert one.completion is not None, "only what is remembered is a vote"
    likely: dict[str, float] = {}
    for token, logprob in one.completion.logprobs.items():
        if (choice := token.strip()) in one.request.choices:
            likely[choice] = likely.get(choice, 0.0) + math.exp(logprob)
    shares = {choice: round(likely[choice], 4) for choice in one.request.choices if choice in likely}
    return Vote(model=one.model, said=one.completion.text.strip(), reasoning=one.completion.reasoning, shares=shares)
