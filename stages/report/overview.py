"""The first screen: what this is, its few main figures, and what is not as it should be."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline import console
from pipeline.store import SHARDS
from stages import tables
from stages.report.base import Section, Source, discreet, figure, model_name


class Tile(NamedTuple):
    """One figure and what it is of."""

    value: str
    name: str


def section(source: Source) -> Section:
    """Figures of the stages that were run, and what differs from the plan."""
    teacher = source.plan.teacher
    data = {
        "about": source.plan.about,
        "teacher": model_name(teacher.model) if teacher else "",
        "tiles": list(_tiles(source)),
        "states": [
            (s.stage, s.state, discreet(s.why, source.file.parent)) for s in source.steps.values() if s.state != "done"
        ],
    }
    return Section("overview", source.plan.name, data)


def _tiles(source: Source) -> Iterator[Tile]:
    if (made := source.version("generate")) is not None:
        yield Tile(figure(sum(map(made.rows, SHARDS))), "rows generated")
    if (filtered := source.version("filter")) is not None:
        yield Tile(f"{tables.pass_rate(filtered):.0%}", "pass the filters")
    if (curated := source.version("curate")) is not None:
        yield Tile(figure(curated.rows("kept")), "rows chosen")
    if (trained := source.version("train")) is not None:
        yield from _student(trained.manifest.figures)
    if (evaluated := source.version("evaluate")) is not None:
        yield from _perplexity(evaluated.manifest.figures.get("models", []))
    used = [version.manifest.usage for version in source.versions()]
    yield Tile(console.clock(sum(usage.get("seconds", 0) for usage in used)), "from start to end")
    if cost := sum(usage.get("cost", 0) for usage in used):
        yield Tile(f"{cost:,.2f}", "paid for")


def _student(figures: dict[str, Any]) -> Iterator[Tile]:
    if rows := figures.get("rows"):
        yield Tile(figure(rows), "rows trained on")
    if parameters := figures.get("parameters"):
        yield Tile(f"{parameters / 1e6:,.1f} M", "parameters of the student")


def _perplexity(models: list[dict[str, Any]]) -> Iterator[Tile]:
    """The student's, with the untrained one's beside it."""
    found = {model.get("model"): model.get("perplexity") for model in models}
    if isinstance(trained := found.get("trained"), int | float):
        before = found.get("untrained")
        beside = f"; untrained {figure(before)}" if isinstance(before, int | float) else ""
        yield Tile(figure(trained), f"perplexity{beside}")
