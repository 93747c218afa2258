"""Two evaluations side by side: every metric of every model they share, prompt against prompt where both have it."""

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline.errors import UsageError
from pipeline.run import Run
from pipeline.store import Version
from stages import bootstrap, flow
from stages.bootstrap import Interval, Score
from stages.evaluate_figures import COSTS, ratio
from stages.scores.base import Better, Metric, Style

Scores = dict[str, Score]
"""A metric of a model: the score of each prompt, by its id."""


class Row(NamedTuple):
    """One metric of one model in both. `difference` is after less before; of a perplexity, after over before.

    `shared`: how many prompts the difference comes from; `paired` False where the evaluations share none.
    """

    model: str
    metric: str
    label: str
    style: Style
    better: Better
    before: float | None
    after: float | None
    difference: Interval | None
    shared: int
    paired: bool

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `no difference shown`, `the same`; "" where neither way is better or nothing is shown."""
        found = self.difference
        none = 1.0 if self.style == "perplexity" else 0.0
        if found is not None and found.value == none and found.low is None and found.n > 1:
            return "the same"
        if found is None or found.low is None or found.high is None or not self.better:
            return ""
        if found.low <= none <= found.high:
            return "no difference shown"
        return "better" if (found.value > none) == (self.better == "higher") else "worse"


class Compared(NamedTuple):
    """Two evaluations. `costs`: model, figure, before, after. `notes`: what they differ in."""

    before: str
    after: str
    rows: list[Row]
    costs: list[tuple[str, str, float | None, float | None]]
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        rows = [
            row._asdict() | {"difference": row.difference and row.difference.plain(), "verdict": row.verdict}
            for row in self.rows
        ]
        costs = [dict(zip(("model", "figure", "before", "after"), cost, strict=True)) for cost in self.costs]
        return {"before": self.before, "after": self.after, "metrics": rows, "costs": costs, "notes": self.notes}


def named(run: Run, text: str) -> Version:
    """An evaluation by name or ordinal (`0002`), or the folder of one, of this run or another. Raises UsageError."""
    path = Path(text)
    version = (
        Version(path) if (path / "manifest.json").is_file() else run.pick("evaluate", text.removeprefix("evaluate/"))
    )
    if version.manifest.stage != "evaluate":
        raise UsageError(f"{text} is a version of {version.manifest.stage}: --compare takes two of evaluate")
    if not (version.path / "outputs.jsonl").is_file():
        raise UsageError(
            f"evaluate {version.name} was made by an older release, which kept no scores of single prompts",
            hint="pipeline evaluate PLAN --again",
        )
    return version


def compare(before: Version, after: Version, seed: int) -> Compared:
    """Metrics that either has, of the models that both have."""
    old, new = _scores(before), _scores(after)
    metrics = {
        m["name"]: Metric(**{key: m[key] for key in Metric._fields})
        for version in (after, before)
        for m in version.manifest.figures["metrics"]
    }
    have = [{m["model"]: m for m in version.manifest.figures["models"]} for version in (before, after)]
    models = [name for name in have[1] if name in have[0]]
    rows = [
        _row(name, metric, have[0][name], have[1][name], old.get((name, key), {}), new.get((name, key), {}), seed)
        for name in models
        for key, metric in metrics.items()
        if key in have[0][name] or key in have[1][name]
    ]
    costs = [
        (name, key, have[0][name].get(key), have[1][name].get(key))
        for name in models
        for key in COSTS
        if key in have[0][name] or key in have[1][name]
    ]
    return Compared(_called(before), _called(after), rows, costs, _notes(before, after))


def _row(
    model: str, metric: Metric, old: dict[str, Any], new: dict[str, Any], before: Scores, after: Scores, seed: int
) -> Row:
    shared = [key for key in before if key in after]
    paired = len(shared) > 1
    if paired:
        columns = [[scores[key] for key in shared] for scores in (before, after)]
        found = bootstrap.interval(columns, lambda a, b: b - a, seed)
    else:
        found = bootstrap.apart(list(before.values()), list(after.values()), lambda a, b: b - a, seed)
    return Row(
        model, metric.name, metric.label, metric.style, metric.better, old.get(metric.name), new.get(metric.name),
        found and ratio(metric, found), found.n if found else 0, paired,
    )  # fmt: skip


def _scores(version: Version) -> dict[tuple[str, str], Scores]:
    """Scores by model and metric; the file is checked against the manifest first."""
    (info,) = (file for file in version.manifest.files if file.file == "outputs.jsonl")
    version.verify(info)
    found: dict[tuple[str, str], Scores] = {}
    with (version.path / "outputs.jsonl").open("rb") as file:
        for row in map(orjson.loads, file):
            for model, scores in row["scores"].items():
                weights = row["weights"].get(model, {})
                for name, value in scores.items():
                    found.setdefault((model, name), {})[row["id"]] = Score(value, weights.get(name, 1.0))
    return found


def _called(version: Version) -> str:
    return version.name.split("-")[0]


def _notes(before: Version, after: Version) -> list[str]:
    """Settings that differ, and inputs."""
    notes = flow.changes(before.manifest.settings, after.manifest.settings)
    now = {source.stage: source for source in after.manifest.inputs}
    for source in before.manifest.inputs:
        other = now.get(source.stage)
        if other is None or other.fingerprint != source.fingerprint:
            notes.append(f"{source.stage}: {source.version} -> {other.version if other else 'none'}")
    return notes
