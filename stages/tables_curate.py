"""What a person wants to see of a choice: its figures beside random ones, its topics, its shares, and other sizes."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline import console
from pipeline.store import Version
from stages.sweep import Size

NAMES = {
    "coverage_mean": "distance to the nearest chosen, mean",
    "coverage_worst": "... and of the record farthest away",
    "neighbour_mean": "distance between chosen neighbours",
    "vendi": "Vendi score (different records)",
    "topic_entropy": "topics, evenness",
    "distinct_1": "distinct words",
    "distinct_2": "distinct word pairs",
    "self_bleu": "self-BLEU",
    "score_mean": "score, mean",
    "chars_mean": "characters, mean",
}


def figures(comparison: dict[str, Any]) -> Table:
    """Every figure of the choice, of all records, and of random choices of the same size."""
    title = f"{comparison['chosen']:,} chosen, beside {comparison['draws']} random choices of as many"
    table = console.table("", "chosen", "random", "95 % of them", "all", "", title=title,
                          right=("chosen", "random", "95 % of them", "all"))  # fmt: skip
    for name, figure in comparison["figures"].items():
        drawn = figure["random"]
        between = f"{number(drawn['low'])} to {number(drawn['high'])}" if drawn else ""
        table.add_row(NAMES.get(name, name), number(figure["chosen"]), number(drawn["mean"]) if drawn else "",
                      between, number(figure["before"]), verdict(figure))  # fmt: skip
    return table


def verdict(figure: dict[str, Any]) -> str:
    """Whether the choice is better than random ones, in a word."""
    drawn, value, better = figure["random"], figure["chosen"], figure["better"]
    if not drawn or not better or value is None:
        return ""
    if drawn["low"] <= value <= drawn["high"]:
        return "no difference"
    return "[green]better[/]" if (value < drawn["low"]) == (better == "lower") else "[yellow]worse[/]"


def number(value: float | None) -> str:
    """Four digits that matter."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def topics(found: list[dict[str, Any]]) -> Table:
    """Topics by size: how many records, how many chosen, and the most central one in words."""
    table = console.table("topic", "rows", "chosen", "in its middle", right=("rows", "chosen"), title="Topics")
    for topic in found:
        name, example = console.cell(topic["name"]), console.cell(topic["example"])
        table.add_row(name, f"{topic['rows']:,}", f"{topic['chosen']:,}", example)
    return table


def shares(found: dict[str, dict[str, list[float]]]) -> Table | None:
    """Who makes up the whole and the choice: sources, tasks, languages; fields with one value only are left out."""
    table = console.table("", "", "of all", "of the chosen", right=("of all", "of the chosen"), title="Shares")
    for field, values in found.items():
        if len(values) > 1:
            for n, (value, (before, after)) in enumerate(values.items()):
                table.add_row(field if n == 0 else "", console.cell(value), f"{before:.0%}", f"{after:.0%}")
    return table if table.row_count else None


def curated(version: Version) -> RenderableType:
    """The whole story of a choice."""
    made = version.manifest.figures
    parts: list[RenderableType] = [figures(made["comparison"]), Text(), topics(made["topics"])]
    if (table := shares(made["shares"])) is not None:
        parts += [Text(), table]
    if made["isolated"]:
        lone = console.table("", "distance", "on its own", right=("distance",), title="Farthest from any other")
        for row in made["isolated"]:
            lone.add_row(row["fate"], f"{row['distance']:.3f}", console.cell(row["text"]))
        parts += [Text(), lone]
    return Group(*parts, Text(f"\nthe map: {version.path / 'map.svg'}"))


def sizes(found: list[Size]) -> Table:
    """Each size beside random choices: where more stops adding coverage."""
    columns = ("keep", "coverage", "random", "worst", "Vendi", "score", "gained per 100")
    table = console.table(*columns, right=columns, title="Distance to the nearest chosen, by size")
    before: tuple[int, float] | None = None
    for size in found:
        of = size.comparison.figures
        mean, drawn = of["coverage_mean"].chosen or 0.0, of["coverage_mean"].random
        added = size.kept - before[0] if before else 0
        gained = number(100 * (before[1] - mean) / added) if before and added else ""
        keep = f"{size.keep:,}" if size.kept == size.keep else f"{size.keep:,} (there are {size.kept:,})"
        table.add_row(keep, number(mean), number(drawn.mean if drawn else None), number(of["coverage_worst"].chosen),
                      number(of["vendi"].chosen), number(of["score_mean"].chosen), gained)  # fmt: skip
        before = size.kept, mean
    return table
