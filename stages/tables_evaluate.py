"""The evaluation as a person reads it: quality, duels, what models cost; and two evaluations side by side."""

from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from pipeline import console
from pipeline.store import Version
from stages.compare import Compared, Row
from stages.scores.base import Style


def evaluated(version: Version) -> RenderableType:
    """All tables of an evaluation."""
    figures = version.manifest.figures
    parts = [_quality(figures)]
    if any(duel["won"] + duel["tied"] + duel["lost"] for duel in figures["duels"]):
        parts.append(_duels(figures))
    return Group(*(piece for part in (*parts, _costs(figures)) for piece in (part, "")))


def _quality(figures: dict[str, Any]) -> Table:
    """A row a metric, a column a model."""
    names = [model["model"] for model in figures["models"]]
    title = f"Held-out evaluation ({figures['rows']} teacher answers the student never saw"
    title += f"; {figures['answers']} prompts answered; 95 % intervals)" if figures["answers"] else "; 95 % intervals)"
    made = console.table("", *names, "gap recovered", title=title, right=(*names, "gap recovered"))
    for metric in figures["metrics"]:
        if not all(model == "trained" for model in _measured(metric, figures)):
            cells = [_cell(metric, model) for model in figures["models"]]
            made.add_row(console.cell(metric["label"]), *cells, _gap(metric))
    return made


def _measured(metric: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    return [model["model"] for model in figures["models"] if metric["name"] in model]


def _cell(metric: dict[str, Any], model: dict[str, Any]) -> str:
    if metric["name"] not in model:
        return ""
    style = metric["style"]
    value = shown(style, model[metric["name"]])
    ends = model["intervals"].get(metric["name"])
    return f"{value} [dim]({'–'.join(shown(style, end).removesuffix('%') for end in ends)})[/]" if ends else value


def _gap(metric: dict[str, Any]) -> str:
    """The share of the way to the teacher; "none" where the teacher is not shown to be better."""
    if not metric["better"] or "teacher" not in metric["difference"]:
        return ""
    found = metric["gap"]
    if found is None:
        return "[dim]no gap[/]"
    if found["low"] is None:
        return f"{found['value']:.0%}"
    return f"{found['value']:.0%} [dim]({found['low']:.0%} to {found['high']:.0%})[/]"


def _duels(figures: dict[str, Any]) -> Table:
    """The trained student against the others."""
    made = console.table("", "won", "tied", "lost", "win rate", "of the ties by place", "no verdict",
                         right=("won", "tied", "lost", "win rate", "of the ties by place", "no verdict"),
                         title="The trained student's answers against others'")  # fmt: skip
    (trained,) = (model for model in figures["models"] if model["model"] == "trained")
    for duel in figures["duels"]:
        rate = _cell({"name": duel["metric"], "style": "share"}, trained)
        counts = (str(duel[key]) for key in ("won", "tied", "lost"))
        label = f"{duel['judge']}: against the {duel['second']}"
        made.add_row(console.cell(label), *counts, rate, str(duel["flipped"] or ""), str(duel["no_verdict"] or ""))
    return made


COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "tokens_per_second": ("tokens/s", lambda n: f"{n:,.0f}"),
    "first_token_seconds": ("first token", lambda n: f"{n * 1000:,.0f} ms"),
    "peak_memory": ("peak memory", lambda n: f"{n / 2**20:,.0f} MiB"),
    "disk": ("on disk", lambda n: f"{n / 2**20:,.0f} MiB" if n else ""),
    "parameters": ("parameters", lambda n: f"{n / 1e6:,.1f} M"),
}


def _costs(figures: dict[str, Any]) -> Table:
    """A row a model: speed and size."""
    heads = [head for head, _ in COSTS.values()]
    made = console.table("", *heads, title="Speed and size, measured in the same run", right=tuple(heads))
    for model in figures["models"]:
        cells = (show(model[key]) if key in model else "" for key, (_, show) in COSTS.items())
        made.add_row(model["model"], *cells)
    return made


def compared(found: Compared) -> RenderableType:
    """Two evaluations, metric by metric: values and the difference, model by model."""
    made = console.table("", "", found.before, found.after, "difference", "prompts", "",
                         right=(found.before, found.after, "difference", "prompts"))  # fmt: skip
    for n, row in enumerate(found.rows):
        first = n == 0 or found.rows[n - 1].model != row.model
        values = ["" if value is None else shown(row.style, value) for value in (row.before, row.after)]
        shared = f"{row.shared}" if row.paired else "[dim]not shared[/]" if row.shared else ""
        made.add_row(row.model if first else "", console.cell(row.label), *values, difference(row), shared, row.verdict)
    costs = console.table("", "", found.before, found.after, right=(found.before, found.after))
    for n, (model, key, before, after) in enumerate(found.costs):
        head, show = COSTS[key]
        first = n == 0 or found.costs[n - 1][0] != model
        costs.add_row(
            model if first else "", head, *("" if value is None else show(value) for value in (before, after))
        )
    return Group(made, "", costs)


def difference(row: Row) -> str:
    """A perplexity's is a ratio, a share's in points of a hundred."""
    if row.difference is None:
        return ""
    form = {"perplexity": "{:.3g}", "share": "{:+.0f}", "bits": "{:+.3f}"}.get(row.style, "{:+.2g}")
    numbers = [number * 100 if row.style == "share" else number for number in row.difference[:3] if number is not None]
    value, *ends = map(form.format, numbers)
    value = f"x{value}" if row.style == "perplexity" else f"{value} points" if row.style == "share" else value
    return f"{value} [dim]({' to '.join(ends)})[/]" if ends else value


def shown(style: Style, value: float) -> str:
    """A value as a table has it."""
    match style:
        case "share":
            return f"{value:.0%}"
        case "bits":
            return f"{value:.3f}"
        case "perplexity":
            return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
