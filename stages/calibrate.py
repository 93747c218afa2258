"""calibrate: how far the plan's judges agree with people, and what answer length alone would have said.

Every judge is asked about the gold rows through the run's memo, so that a second look costs nothing. A pointwise judge
compares two answers by their scores; a pairwise one is asked in both orders.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from filters import AnyFilter
from filters.base import SetFilter
from filters.judge import Judge
from filters.pairwise import Duel, Outcome, Pairwise
from filters.reward import Reward
from filters.verdicts import UNMEASURED, asked_in
from pipeline.config import nearest
from pipeline.errors import UsageError
from pipeline.job import Job
from pipeline.models import ensure
from pipeline.records import Check, Record
from pipeline.run import Run
from prompts import load
from stages.agreement import (
    Compared,
    Figure,
    Measured,
    Scored,
    figures,
    of_pairs,
    of_scores,
    saturation,
    threshold_for,
)
from stages.filter import FilterStage
from stages.gold import Gold
from stages.plan import Plan

FEW = 50  # gold rows under which intervals say little
SATURATED = 0.8
BESIDE_LENGTH = {"spearman_over_length": "length_spearman", "pair_accuracy_over_length": "length_pair_accuracy"}


class Options(NamedTuple):
    """What the user asks of a calibration."""

    rule: str = ""
    good_from: float | None = None
    precision: float = 0.9
    repeats: int = 1


class Calibration(NamedTuple):
    """One judge against the gold. `unmeasured` counts the rows it gave no verdict on, by reason."""

    rule: str
    gold: str
    rows: int
    unmeasured: dict[str, int]
    figures: list[Figure]
    notes: list[str]


class Asked(NamedTuple):
    """What a judge was asked with: the run's models, the gold, and what the user wants to know."""

    job: Job
    gold: Gold
    options: Options


def calibrate(plan: Plan, run: Run, gold: Gold, options: Options) -> list[Calibration]:
    """Every judge of the plan, or the one rule named, against the gold. Holds the run for writing: it asks models."""
    rules = _rules(plan, options.rule)
    with run.writing():
        job = Job(run, plan.seed, plan.teacher)
        try:
            for model, revision in {w for rule in rules for w in _weights(rule, plan)}:
                ensure(model, revision)
            return [_calibrated(rule, Asked(job, gold, options)) for rule in rules]
        finally:
            job.close()


def _rules(plan: Plan, name: str) -> list[AnyFilter]:
    stage = plan.stage("filter")
    assert isinstance(stage, FilterStage)
    labels = [rule.label for rule in stage.rules]
    if name and name not in labels:
        raise UsageError(f"no rule of the plan is called {name!r}{nearest(name, labels)}")
    judges = [r for r in stage.rules if (r.label == name if name else isinstance(r, Judge | Pairwise | Reward))]
    if not judges:
        raise UsageError("the plan's filter section has no judge", hint=f"name a rule: --rule {labels[-1]}")
    return judges


def _weights(rule: AnyFilter, plan: Plan) -> list[tuple[str, str]]:
    if not isinstance(rule, SetFilter):
        return []
    return rule.weights() + [w for engine in rule.asks(plan.teacher) for w in engine.weights()]


def _calibrated(rule: AnyFilter, asked: Asked) -> Calibration:
    preferences = asked.gold.preferences
    notes = rule.notes(asked.job.teacher) if isinstance(rule, SetFilter) else []
    if isinstance(rule, Pairwise):
        found = _of_pairwise(rule, asked)
    elif preferences:
        found = _of_preferences(rule, asked)
    else:
        found = _of_marks(rule, asked, notes)
    rows, unmeasured, made = found
    kind = "preferences" if preferences else "scores"
    if rows < FEW:
        notes.append(f"{rows} gold rows say little: the intervals are wide, and {FEW} or more are better")
    return Calibration(rule.label, kind, rows, dict(unmeasured), made, [*notes, *_verdict(made)])


Found = tuple[int, Counter[str], list[Figure]]


def _of_marks(rule: AnyFilter, asked: Asked, notes: list[str]) -> Found:
    """Scores against scores; two answers to one prompt that people scored apart are a preference, too."""
    marks, job, options = asked.gold.marks, asked.job, asked.options
    records = [mark.record for mark in marks]
    checks = list(rule.sift(iter(records), job))
    good_from = _good_from(rule, [mark.value for mark in marks], options.good_from)
    if good_from is None:
        notes.append("kappa, precision and a threshold need the human score from which a row is good: --good-from")
    clusters: dict[str, list[tuple[Scored, Record]]] = {}
    unmeasured: Counter[str] = Counter()
    for mark, check in zip(marks, checks, strict=True):
        if check.reason in UNMEASURED:
            unmeasured[check.reason] += 1
            continue
        good = None if good_from is None else mark.value >= good_from
        scored = Scored(check.value, mark.value, len(mark.record.answer), check.passed, good)
        clusters.setdefault(asked_in(mark.record), []).append((scored, mark.record))
    if not clusters:
        return 0, unmeasured, []
    grouped = [[scored for scored, _ in cluster] for cluster in clusters.values()]
    rows = [scored for cluster in grouped for scored in cluster]
    made = figures(grouped, of_scores, job.seed)
    pairs = [[_by_scores(a, b) for a, b in _apart(cluster)] for cluster in grouped]
    if any(pairs):
        made += figures([p for p in pairs if p], of_pairs, job.seed)
    made.append(Figure("saturation", saturation([row.score for row in rows])))
    made += _repeats(rule, asked, records, checks)
    if (bound := threshold_for(rows, options.precision)) is not None:
        made += [Figure(f"threshold_{name}", value) for name, value in bound._asdict().items()]
    return len(rows), unmeasured, made


def _of_preferences(rule: AnyFilter, asked: Asked) -> Found:
    """Both answers of every pair are scored; the higher score is preferred."""
    pairs = asked.gold.preferences
    records = [record for pair in pairs for record in (pair.chosen, pair.rejected)]
    checks = list(rule.sift(iter(records), asked.job))
    compared: list[list[Compared]] = []
    scores, unmeasured = [], Counter[str]()
    for pair, (a, b) in zip(pairs, zip(checks[::2], checks[1::2], strict=True), strict=True):
        if failed := [c.reason for c in (a, b) if c.reason in UNMEASURED]:
            unmeasured[failed[0]] += 1
            continue
        scores += [a.value, b.value]
        longer = _share(len(pair.chosen.answer), len(pair.rejected.answer))
        compared.append([Compared(_share(a.value, b.value), longer)])
    if not compared:
        return 0, unmeasured, []
    made = [*figures(compared, of_pairs, asked.job.seed), Figure("saturation", saturation(scores))]
    return len(compared), unmeasured, made + _repeats(rule, asked, records, checks)


def _of_pairwise(rule: Pairwise, asked: Asked) -> Found:
    """Every pair is compared in both orders."""
    clusters = list(_preferred(asked.gold))
    if not clusters:
        raise UsageError(
            f"{rule.label} compares two answers to one prompt, and the gold prefers none",
            hint="give `chosen` and `rejected`, or differing scores of several answers to each prompt",
        )
    pairs = [pair for cluster in clusters for pair in cluster]
    duels = [Duel(a.id, asked_in(a), a.answer, b.answer) for a, b in pairs]
    outcomes = list(rule.duels(iter(duels), asked.job))
    unmeasured = Counter(o.reason for o in outcomes if o.reason)
    stream = iter(zip(pairs, outcomes, strict=True))
    compared = [list(_compared(itertools.islice(stream, len(cluster)))) for cluster in clusters]
    if not any(compared):
        return 0, unmeasured, []
    made = figures([c for c in compared if c], of_pairs, asked.job.seed)
    for nth in range(1, asked.options.repeats + 1):
        again = list(rule.duels(iter(duels), asked.job, nth))
        both = [(o.share, p.share) for o, p in zip(outcomes, again, strict=True) if not (o.reason or p.reason)]
        if both:
            made.append(Figure(_numbered("repeat_agreement", nth), sum(a == b for a, b in both) / len(both)))
    return sum(map(len, compared)), unmeasured, made


def _compared(met: Iterator[tuple[tuple[Record, Record], Outcome]]) -> Iterator[Compared]:
    for (better, worse), outcome in met:
        if not outcome.reason:
            yield Compared(outcome.share, _share(len(better.answer), len(worse.answer)), outcome.letters)


def _preferred(gold: Gold) -> Iterator[list[tuple[Record, Record]]]:
    """Pairs of a better and a worse answer, prompt by prompt."""
    for pair in gold.preferences:
        yield [(pair.chosen, pair.rejected)]
    prompts: dict[str, list[tuple[float, Record]]] = {}
    for mark in gold.marks:
        prompts.setdefault(asked_in(mark.record), []).append((mark.value, mark.record))
    for cluster in prompts.values():
        pairs = [(a, b) if x > y else (b, a) for (x, a), (y, b) in itertools.combinations(cluster, 2) if x != y]
        if pairs:
            yield pairs


def _apart(cluster: list[Scored]) -> Iterator[tuple[Scored, Scored]]:
    """Pairs that people scored apart, the better one first."""
    for a, b in itertools.combinations(cluster, 2):
        if a.gold != b.gold:
            yield (a, b) if a.gold > b.gold else (b, a)


def _by_scores(better: Scored, worse: Scored) -> Compared:
    return Compared(_share(better.score, worse.score), _share(better.length, worse.length))


def _share(a: float, b: float) -> float:
    return 0.5 if a == b else float(a > b)


def _good_from(rule: AnyFilter, values: list[float], given: float | None) -> float | None:
    """The human score from which a row is good: what the user says, yes of yes and no, or the judge's own bound."""
    if given is not None:
        return given
    if set(values) <= {0.0, 1.0}:
        return 1.0
    scale = load(rule.prompt).front.scale if isinstance(rule, Judge) else None
    on_scale = scale is not None and scale[0] <= min(values) and max(values) <= scale[1]
    return rule.min_score if on_scale and isinstance(rule, Judge) else None


def _repeats(rule: AnyFilter, asked: Asked, records: list[Record], checks: list[Check]) -> list[Figure]:
    """How often the same question, asked anew, gets the same whole number; a rule without chance is not asked again."""
    if not isinstance(rule, Judge):
        return []
    found = []
    for nth in range(1, asked.options.repeats + 1):
        again = rule.take(iter(records), asked.job, nth)
        both = [(a.value, b.value) for a, b in zip(checks, again, strict=True)
                if a.reason not in UNMEASURED and b.reason not in UNMEASURED]  # fmt: skip
        if both:
            same = sum(round(a) == round(b) for a, b in both) / len(both)
            found.append(Figure(_numbered("repeat_agreement", nth), same))
            apart = sum(abs(a - b) for a, b in both) / len(both)
            found.append(Figure(_numbered("repeat_difference", nth), apart))
    return found


def _numbered(name: str, nth: int) -> str:
    return name if nth == 1 else f"{name}_{nth}"


def _verdict(made: list[Figure]) -> list[str]:
    """What the figures come to, in words."""
    found: Measured = {figure.name: figure.value for figure in made}
    notes = []
    for over, by in (
        ("spearman_over_length", "length_spearman"),
        ("pair_accuracy_over_length", "length_pair_accuracy"),
    ):
        figure = next((f for f in made if f.name == over), None)
        if figure is not None and (figure.low is None or figure.low <= 0):
            notes.append(f"no better than answer length: {over} may be 0 or less (length alone: {_two(found.get(by))})")
    if (found.get("saturation") or 0) > SATURATED:
        notes.append(f"{found['saturation']:.0%} of the scores round to one number: it hardly tells answers apart")
    if (found.get("swap_flips") or 0) > 0.5:
        notes.append(f"{found['swap_flips']:.0%} of the verdicts follow the place and not the answer")
    if "kappa" in found and "threshold_min_score" not in found:
        notes.append("no min_score reaches the precision that was asked for")
    return notes


def _two(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
