"""From columns of scores to figures: each model's value, how the trained student differs, how much of a gap is gone."""

from typing import Any

from stages import bootstrap
from stages.bootstrap import Column, Interval
from stages.scores.base import Columns, Metric, Paper
from stages.scores.human import Text
from stages.scores.judged import Duels
from stages.scores.probes import Probe
from stages.scores.tasks import Item

Measured = dict[str, Any]
"""What `stages.measure` found of a model, and its bytes on disk."""
COSTS = ("tokens_per_second", "first_token_seconds", "peak_memory", "parameters", "disk")
SURE = 0.975  # of the draws in which the teacher has to be better for a gap


class Results:
    """Everything that was measured, model by model; metrics in the order in which they came."""

    def __init__(self, papers: dict[str, Paper], measured: dict[str, Measured]) -> None:
        self.papers, self.measured = papers, measured
        self.table: dict[Metric, dict[str, Column]] = {}
        self.duels: list[Duels] = []

    def add(self, model: str, columns: Columns) -> None:
        """Take a model's columns in."""
        for metric, column in columns.items():
            self.table.setdefault(metric, {})[model] = column


def figures(results: Results, seed: int) -> dict[str, Any]:
    """What the manifest says: models with flat values and their intervals, metrics with differences and gaps."""
    values = {
        (metric, model): single(metric, column, seed)
        for metric, columns in results.table.items()
        for model, column in columns.items()
    }
    models = []
    for name in results.papers:
        own = {metric.name: found for (metric, model), found in values.items() if model == name and found is not None}
        costs = {key: value for key, value in results.measured.get(name, {}).items() if key in COSTS}
        tokens = {"tokens": sum(loss.tokens for loss in results.papers[name].losses)}
        ends = {key: [found.low, found.high] for key, found in own.items() if found.low is not None}
        models.append(
            {"model": name} | {key: found.value for key, found in own.items()} | tokens | costs | {"intervals": ends}
        )
    trained = results.papers["trained"]
    return {
        "rows": sum(len(x.references) for x in trained.examples),
        "prompts": len(trained.examples),
        "answers": len(trained.answers),
        "models": models,
        "metrics": [_metric(metric, columns, seed) for metric, columns in results.table.items()],
        "duels": [duels.plain() for duels in results.duels],
    }


def single(metric: Metric, column: Column, seed: int) -> Interval | None:
    """A model's value of a metric."""
    found = bootstrap.interval([column], lambda mean: mean, seed)
    if found is None:
        return None
    low, high = (None if end is None else metric.value(end) for end in found[1:3])
    return Interval(metric.value(found.value), low, high, found.n)


def difference(metric: Metric, one: Column, other: Column, seed: int) -> Interval | None:
    """How much higher the metric is in the first column, prompt against prompt; of a perplexity, how many times."""
    found = bootstrap.interval([one, other], lambda a, b: a - b, seed)
    return found and ratio(metric, found)


def ratio(metric: Metric, found: Interval) -> Interval:
    """A difference of logarithms as the ratio that it is; any other difference as it is."""
    if metric.style != "perplexity":
        return found
    low, high = (None if end is None else metric.value(end) for end in found[1:3])
    return Interval(metric.value(found.value), low, high, found.n)


def gap(metric: Metric, columns: dict[str, Column], seed: int) -> Interval | None:
    """The part of the way from the untrained student to the teacher that training went.

    None where the teacher is not better in 39 of 40 draws, or where neither way is better. Of a perplexity, of its
    logarithm.
    """
    if not metric.better or not {"teacher", "untrained", "trained"} <= columns.keys():
        return None
    sign = 1 if metric.better == "higher" else -1
    base, top, student = columns["untrained"], columns["teacher"], columns["trained"]
    if bootstrap.share([base, top], lambda a, b: sign * (b - a) > 0, seed) < SURE:
        return None
    return bootstrap.interval([base, top, student], lambda a, b, c: (c - a) / (b - a), seed)


def _metric(metric: Metric, columns: dict[str, Column], seed: int) -> dict[str, Any]:
    differences = {}
    for other in ("untrained", "teacher"):
        if other in columns and "trained" in columns:
            found = difference(metric, columns["trained"], columns[other], seed)
            differences[other] = found and found.plain()
    recovered = gap(metric, columns, seed)
    return metric._asdict() | {"difference": differences, "gap": recovered and recovered.plain()}


def outputs(results: Results, texts: list[Text], probes: list[Probe], items: list[Item]) -> list[dict[str, Any]]:
    """A row a prompt, human text, probe and item of a task, with every model's answer and all that was measured on it.

    `weights` are there where a score does not count once: tokens, bytes, word pairs.
    """
    examples = results.papers["trained"].examples
    rows: list[dict[str, Any]] = [
        {"sort": "prompt", "id": x.record.id, "prompt": x.record.prompt, "heldout": x.references[0]} for x in examples
    ]
    rows += [{"sort": "human", "id": text.where, "heldout": text.said} for text in texts]
    rows += [{"sort": "probe", "id": probe.id, "prompt": probe.prompt} for probe in probes]
    rows += [{"sort": f"lm_eval/{item.task}", "id": f"{item.task}/{item.number}"} for item in items]
    begins: dict[str, int] = {}
    for place, row in enumerate(rows):
        begins.setdefault(row["sort"], place)
    whole = [row | {"answers": {}, "scores": {}, "weights": {}} for row in rows]
    for name, paper in results.papers.items():
        for n, answer in enumerate(paper.answers):
            whole[n]["answers"][name] = answer
        for n, said in enumerate(results.measured.get(name, {}).get("probes", ())):
            whole[begins["probe"] + n]["answers"][name] = said["text"]
    for metric, columns in results.table.items():
        begin = begins[metric.on]
        for model, column in columns.items():
            for row, score in zip(whole[begin:], column, strict=False):
                if score is not None:
                    row["scores"].setdefault(model, {})[metric.name] = score.value
                    if score.weight != 1:
                        row["weights"].setdefault(model, {})[metric.name] = score.weight
    return whole
