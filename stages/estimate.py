"""Know before you pay: a pilot over a few seeds, and what the whole run would then take.

The pilot's seeds are drawn from all of them under the plan's seed, and its answers are remembered, so the run that
follows does not pay for them again. Totals come with 95 % bootstrap intervals over the pilot's seeds (Efron 1979),
shares with Wilson intervals (1927).
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pipeline import console
from pipeline.errors import UsageError
from pipeline.job import Job
from pipeline.models import ensure
from pipeline.records import Record
from pipeline.run import Run
from pipeline.store import Tally
from stages.agreement import wilson
from stages.base import Inputs
from stages.filter import FilterStage, apply
from stages.generate import Generate, Maker
from stages.plan import Plan
from stages.scripts import Unit

DRAWS = 1000


class Figure(NamedTuple):
    """One prediction: its name, what the pilot gave, the expectation, and the ends of the interval."""

    name: str
    pilot: float
    expected: float
    low: float
    high: float


class Asked(NamedTuple):
    """What one pilot seed brought."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    kept: int


class Estimate(NamedTuple):
    """The figures, and what to know about them."""

    figures: list[Figure]
    notes: list[str]


def estimate(plan: Plan, run: Run, seeds: int) -> Estimate:
    """Run the pilot and predict `generate`, and the pass rate of `filter` where the plan has one."""
    stage = plan.stages().get("generate")
    if not isinstance(stage, Generate):
        raise UsageError(f"the plan {plan.name} has no section `generate` to estimate")
    for model, revision in stage.models(plan.teacher):
        ensure(model, revision)
    with run.writing():
        job = Job(run, plan.seed, plan.teacher)
        try:
            return _piloted(plan, stage, job, seeds)
        finally:
            job.close()


def _piloted(plan: Plan, stage: Generate, job: Job, seeds: int) -> Estimate:
    inputs = Inputs(None, {})
    stage.prepare(job, inputs)
    total = inputs.total or 0
    drawn = set(random.Random(plan.seed).sample(range(total), min(seeds, total)))
    starts = (start for n, start in enumerate(stage.starts(job, turns=1)) if n in drawn)
    maker, asked, records = Maker(job.teacher, stage), [], []
    started = time.monotonic()
    with console.Bar("pilot", len(drawn)) as bar:
        for unit in stage.scripts(job, starts):
            made = [maker.record(unit, nth, example) for nth, example in enumerate(unit.examples)]
            records += made
            asked.append(_asked(unit, _accepted(stage, job, made)))
            bar.advance()
    seconds = job.usage["engine_seconds"] if job.usage["asked"] else 0.0
    tokens = job.usage["completion_tokens"]
    whole = _whole(stage, asked, total)
    figures = [*_totals(asked, whole), *_minutes(asked, whole, tokens / seconds if seconds else 0.0)]
    figures += _shares(records, plan.filter, job)
    notes = [
        f"{len(drawn)} of {total:,} seeds asked in {console.clock(time.monotonic() - started)}; they stay remembered"
    ]
    if not seconds:
        notes.append("every answer of the pilot was remembered, so nothing is known of the time")
    elif len(drawn) < total:
        notes.append("a full run keeps the teacher fuller than the pilot did: it takes less time, if anything")
    return Estimate(figures, notes)


def _asked(unit: Unit, kept: int) -> Asked:
    return Asked(*unit.spent, kept)


def _accepted(stage: Generate, job: Job, records: list[Record]) -> int:
    """How many of one seed's rows `count.rules` accept."""
    stream: Iterator[Record] = iter(records)
    for rule in stage.accepts:
        stream = apply(rule, stream, job, Tally(step=rule.label))
    return sum(not r.dropped and r.split == "train" for r in stream)


def _whole(stage: Generate, asked: list[Asked], total: int) -> float:
    """How many scripts the run will need; for `count.accepted` by the rate at which the pilot's were accepted."""
    if stage.count is None:
        return total
    rate = sum(a.kept for a in asked) / max(1, len(asked))
    per_seed = sum(a.requests for a in asked) / max(1, len(asked))
    wanted = stage.count.accepted / rate if rate else float("inf")
    limit = stage.count.limits().requests
    return min(wanted, limit / max(per_seed, 1e-9)) if limit else wanted


def _totals(asked: list[Asked], whole: float) -> list[Figure]:
    names: list[tuple[str, Callable[[Asked], float]]] = [
        ("requests", lambda a: a.requests),
        ("prompt tokens", lambda a: a.prompt_tokens),
        ("completion tokens", lambda a: a.completion_tokens),
        ("cost", lambda a: a.cost),
    ]
    return [_total(name, [value(a) for a in asked], whole) for name, value in names if any(map(value, asked))]


def _minutes(asked: list[Asked], whole: float, speed: float) -> list[Figure]:
    """Minutes at the pilot's tokens a second."""
    if not speed:
        return []
    return [_total("minutes", [a.completion_tokens / speed / 60 for a in asked], whole)]


def _total(name: str, values: list[float], whole: float) -> Figure:
    chance = random.Random(name)
    means = sorted(sum(chance.choices(values, k=len(values))) / len(values) for _ in range(DRAWS))
    low, high = means[round(0.025 * DRAWS)], means[round(0.975 * DRAWS) - 1]
    return Figure(name, sum(values), sum(values) / len(values) * whole, low * whole, high * whole)


def _shares(records: list[Record], filters: FilterStage | None, job: Job) -> list[Figure]:
    """Rows that generate keeps, and of these those that pass the filters (the judge is asked, too)."""
    kept = [r for r in records if not r.dropped]
    found = [_share("generate keeps", len(kept), len(records))]
    if filters is not None and kept:
        stream: Iterable[Record] = kept
        for rule in filters.rules:
            stream = apply(rule, stream, job, Tally(step=rule.label))
        found.append(_share("filter passes", sum(not r.dropped for r in stream), len(kept)))
    return found


def _share(name: str, part: int, whole: int) -> Figure:
    """A share with its Wilson interval."""
    if not whole:
        return Figure(name, 0, 0, 0, 1)
    return Figure(name, part / whole, part / whole, *wilson(part, whole))
