"""What training wrote down: the loss and its parts, and what else was measured on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from pipeline.store import Version
from stages.report import chart
from stages.report.base import Section, Source, Table, figure, not_run, words

TITLE = "Training"
OF_NO_INTEREST = ("step", "epoch", "total_flos")
STEERING = ("grad_norm", "learning_rate", "num_tokens", "lr")  # not what is learnt
CHARTS = 24


def section(source: Source) -> Section:
    """A chart for every measure, the loss first."""
    version = source.version("train")
    if version is None:
        return not_run("training", TITLE, source, "train")
    curves = _curves(version)
    found = {name: chart.plot(series) for name, series in list(curves.items())[:CHARTS]}
    data: dict[str, Any] = {
        "learnt": {words(name): plot for name, plot in found.items() if name not in STEERING},
        "steering": {words(name): plot for name, plot in found.items() if name in STEERING},
        "facts": _facts(version),
    }
    return Section("training", TITLE, data)


def _curves(version: Version) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """By measure and then by the training it was taken in (a schedule has several), places by step."""
    files = {path.parent.name: path for path in sorted(version.path.glob("steps/*/metrics.jsonl"))}
    best = version.manifest.figures.get("schedule", {})
    name = best.get("best", "best") if isinstance(best, dict) and files else "train"
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for training, path in {**files, str(name): version.path / "metrics.jsonl"}.items():
        for step, measure, value in _points(path):
            found.setdefault(measure, {}).setdefault(training, []).append((step, value))
    enough = {m: {t: p for t, p in s.items() if len(p) > 1} for m, s in found.items()}
    return {measure: enough[measure] for measure in sorted(enough, key=_order) if enough[measure]}


def _points(path: Path) -> Iterator[tuple[float, str, float]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            for name, value in row.items():
                if isinstance(value, int | float) and name not in OF_NO_INTEREST and "step" in row:
                    yield row["step"], name, value


def _order(measure: str) -> tuple[int, str]:
    return (0 if measure == "loss" else 1 if "loss" in measure else 2), measure


def _facts(version: Version) -> Table:
    """Single figures of the manifest."""
    made = version.manifest.figures
    rows = [[words(name), figure(value, name)] for name, value in made.items() if isinstance(value, int | float | str)]
    return Table(["", ""], rows, ())
