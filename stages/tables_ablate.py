"""An ablation as a person reads it: the arms, and for each contrast what it did to every metric."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from pipeline import console
from pipeline.store import Version
from stages.ablation.forecast import Forecast
from stages.bootstrap import Interval
from stages.compare import Row
from stages.tables_evaluate import difference, shown

COLOUR = {"better": "green", "worse": "yellow"}


def ablated(version: Version) -> RenderableType:
    """Arms, then contrasts."""
    figures = version.manifest.figures
    return Group(_arms(figures), "", _contrasts(figures), "")


def _arms(figures: dict[str, Any]) -> Table:
    """A row an arm, with the first metric; then the models beside them."""
    first = first_metric(figures)
    label = first["label"] if first else ""
    title = (
        f"Students of {len(figures['seeds'])} seeds an arm, {figures['budget']:,} tokens each, on "
        f"{figures['prompts']} held-out prompts (95 % intervals)"
    )
    right = ("rows", "times seen", "last loss", label)
    made = console.table("arm", "trained on", "rows", "times seen", "last loss", label, title=title, right=right)
    for arm in figures["arms"]:
        made.add_row(*map(console.cell, facts(arm)), _value(first, arm["values"]))
    for model in figures["beside"]:
        made.add_row(f"[dim]{console.cell(model['model'])}[/]", "", "", "", "", _value(first, model["values"]))
    return made


def first_metric(figures: dict[str, Any]) -> dict[str, Any] | None:
    """The first of which more or less is better."""
    return next((metric for metric in figures["metrics"] if metric["better"]), None)


def facts(arm: dict[str, Any]) -> list[str]:
    """An arm's name, what it is trained on, rows, times seen, last loss."""
    seen = f"{arm['seen'] / arm['tokens']:.1f}" if arm["tokens"] and arm["seen"] else ""
    loss = "" if arm["last_loss"] is None else f"{arm['last_loss']:.3f}"
    return [arm["arm"], arm["data"], f"{arm['rows']:,}", seen, loss]


def _value(metric: dict[str, Any] | None, values: dict[str, Any]) -> str:
    if metric is None or metric["name"] not in values:
        return ""
    found, style = values[metric["name"]], metric["style"]
    if found["value"] is None:  # no finite number, which JSON has no word for
        return ""
    text = shown(style, found["value"])
    if found["low"] is None:
        return text
    return f"{text} [dim]({shown(style, found['low'])}–{shown(style, found['high'])})[/]"


def _contrasts(figures: dict[str, Any]) -> Table:
    """A block a contrast, a row a metric."""
    made = console.table("", "without", "with", "difference", "",
                         right=("without", "with", "difference"), title="What each choice brought")  # fmt: skip
    last = ""
    for one in figures["contrasts"]:
        row, name = row_of(one), one["brought"]
        values = ["" if value is None else shown(row.style, value) for value in (row.before, row.after)]
        if name != last:
            arms = (f"[dim]{console.cell(one[key])}[/]" for key in ("second", "first"))
            made.add_row(f"[bold]{console.cell(name)}[/]", *arms)
        said = f"[{COLOUR[row.verdict]}]{row.verdict}[/]" if row.verdict in COLOUR else row.verdict
        made.add_row(f"  {console.cell(row.label)}", *values, difference(row), said)
        last = name
    return made


def row_of(one: dict[str, Any]) -> Row:
    """A contrast's row as it was measured."""
    found = {key: value for key, value in one.items() if key in Row._fields}
    known = found["difference"] is not None and found["difference"]["value"] is not None
    return Row(**found | {"difference": Interval(**found["difference"]) if known else None})


def forecast(found: Forecast) -> RenderableType:
    """Arms that would be trained, and how long that takes."""
    made = console.table("arm", "rows of", "differs from the plan in", "students", "to train",
                         right=("students", "to train"), title="Ablation")  # fmt: skip
    for arm in found.arms:
        to_train = "unknown" if arm.to_train is None else str(arm.to_train)
        texts = map(console.cell, (arm.name, arm.data, "; ".join(arm.changes)))
        made.add_row(*texts, str(arm.students), to_train)
    compared = console.table("compared", "with", "shows what it brought:")
    for contrast in found.contrasts:
        compared.add_row(*map(console.cell, contrast))
    return Group(made, "", compared, "", *(f"note: {note}" for note in found.notes))
