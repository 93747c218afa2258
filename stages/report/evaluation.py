"""The evaluation, whatever figures it holds: models side by side, then what is told of them together.

A figure is a number, or a mapping with a `value` and, where it has an interval, `low` and `high`; a model may keep the
ends of its intervals apart, under `intervals`. `metrics` say what a figure is called, whether it is a share, how the
trained student differs from the others, and how much of the gap is gone.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from stages.report.base import Estimate, Section, Source, Table, figure, model_name, not_run, words

TITLE = "Evaluation"
VALUES = ("value", "mean")  # keys under which an estimate keeps its figure
SHOWN = 60  # rows of one table
DEEP = 4  # mappings within one another that are opened
GAP = "gap recovered"

Figures = Mapping[str, Any]


def section(source: Source) -> Section:
    """A table with a column a model, one of differences, and one for everything else."""
    version = source.version("evaluate")
    if version is None:
        return not_run("evaluation", TITLE, source, "evaluate")
    made = dict(version.manifest.figures)
    models, metrics = _mappings(made.pop("models", [])), _mappings(made.pop("metrics", []))
    rows = made.pop("rows", None)
    others = [(words(name), table) for name, value in made.items() if (table := _table(value, name))]
    single = [[words(name), text] for name, value in made.items() if (text := _text(value, name))]
    if single:
        others.append(("Counts", Table(["", ""], single)))
    data = {
        "models": side_by_side(models, metrics),
        "differences": differences(metrics),
        "rows": rows,
        "others": others,
        "notes": version.manifest.notes,
    }
    return Section("evaluation", TITLE, data)


def side_by_side(models: list[Figures], metrics: list[Figures]) -> Table:
    """A row for every figure that any model has, metrics first; a column for every model, and one for the gap."""
    names = [model_name(str(model.get("model", f"model {n + 1}"))) for n, model in enumerate(models)]
    known = {str(metric.get("name")): metric for metric in metrics}
    columns = [dict(_of_model(model, known)) for model in models]
    keys = list(dict.fromkeys([*known, *(key for one in columns for key in one)]))
    keys = [key for key in keys if any(key in one for one in columns)]
    gaps = [known.get(key, {}).get("gap") for key in keys]
    head = ["", *names, *([GAP] if any(gaps) else [])]
    rows = []
    for key, gap in zip(keys, gaps, strict=True):
        cells = [one.get(key, "") for one in columns] + ([_share(gap) if gap else ""] if any(gaps) else [])
        rows.append([str(known.get(key, {}).get("label") or words(key)), *cells])
    return Table(head, rows, tuple(head[1:]))


def differences(metrics: list[Figures]) -> Table | None:
    """How the trained student's figures differ from each other model's; None where nothing was compared."""
    others = list(dict.fromkeys(other for metric in metrics for other in metric.get("difference") or {}))
    rows = []
    for metric in metrics:
        found = metric.get("difference") or {}
        if any(found.values()):
            cells = [_styled(found[other], metric) if found.get(other) else "" for other in others]
            rows.append([str(metric.get("label") or words(str(metric.get("name", "")))), *cells])
    head = ["", *(f"the {other}" for other in others)]
    return Table(head, rows, tuple(head[1:])) if rows else None


def _styled(found: Figures, metric: Figures) -> Estimate:
    """A difference as its metric counts: in points of a share, as a ratio of perplexities."""
    match metric.get("style"):
        case "share":
            told = _estimate(found, lambda value: f"{100 * value:+.1f}")
            return told._replace(value=f"{told.value} points")
        case "perplexity":
            told = _estimate(found, lambda value: f"{value:.3g}")
            return told._replace(value=f"× {told.value}")
    return _estimate(found, lambda value: f"{value:+.3g}")


def _share(found: Figures) -> Estimate:
    return _estimate(found, lambda value: f"{value:.0%}")


def _estimate(found: Figures, shown: Callable[[Any], str]) -> Estimate:
    """A figure and its interval, each number as `shown` shows it."""
    value, low, high = (found.get(key) for key in ("value", "low", "high"))
    if not isinstance(value, int | float):
        return Estimate("undefined")
    there = isinstance(low, int | float) and isinstance(high, int | float)
    return Estimate(shown(value), f"{shown(low)} to {shown(high)}" if there else "")


def _of_model(model: Figures, known: dict[str, Figures]) -> Iterator[tuple[str, str | Estimate]]:
    """A model's figures by name, with the intervals that it keeps apart."""
    ends = model.get("intervals")
    ends = ends if isinstance(ends, Mapping) else {}
    for key, value in model.items():
        if key in ("model", "intervals"):
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = ends.get(key) or (None, None)
            of_share = known.get(key, {}).get("style") == "share"
            told = {"value": value, "low": low, "high": high}
            yield key, _share(told) if of_share else _estimate(told, partial(figure, name=key))
        else:
            yield from _flat({key: value})


def _mappings(value: Any) -> list[Figures]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _flat(figures: Figures, before: str = "", depth: int = 0) -> Iterator[tuple[str, str | Estimate]]:
    """Figures by name; those within a mapping carry its name, too."""
    for key, value in figures.items():
        name = f"{before} {key}".strip()
        if (text := _text(value, str(key))) is not None:
            yield name, text
        elif isinstance(value, Mapping) and depth < DEEP:
            yield from _flat(value, name, depth + 1)


def _text(value: Any, name: str) -> str | Estimate | None:
    """A figure with its interval; None for what is no single figure."""
    if value is None or isinstance(value, int | float | str):
        return figure(value, name)
    if isinstance(value, Mapping) and (key := next((k for k in VALUES if k in value), "")):
        if value[key] is None or isinstance(value[key], int | float):
            return _estimate({**value, "value": value[key]}, partial(figure, name=name))
    elif isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ", ".join(figure(one, name) for one in value)
    return None


def _table(value: Any, name: str) -> Table | None:
    """A mapping of figures, or a list of mappings, as a table; None for anything else."""
    if isinstance(value, Mapping) and _text(value, name) is None:
        if value and all(isinstance(one, Mapping) and _text(one, name) is None for one in value.values()):
            return _rows([{"": words(str(key)), **inner} for key, inner in value.items()])
        rows = [[words(key), text] for key, text in _flat(value) if text]
        return Table(["", ""], rows[:SHOWN]) if rows else None
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        return _rows(value)
    return None


def _rows(rows: list[Figures]) -> Table:
    """A line for every mapping."""
    flat = [dict(_flat(row)) for row in rows[:SHOWN]]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    right = tuple(words(key) for n, key in enumerate(keys) if n)
    return Table([words(key) for key in keys], [[one.get(key, "") for key in keys] for one in flat], right)
