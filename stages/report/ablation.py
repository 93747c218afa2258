"""The ablation: its arms, every contrast with what it did to each metric, answers side by side, and loss curves."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
from rich.text import Text

from pipeline.errors import PipelineError
from pipeline.store import Version
from stages import flow
from stages.ablation.picture import Spot, ends, spot
from stages.ablation.study import STAGE, Study
from stages.report import chart
from stages.report.base import Estimate, Section, Source, Table, cut, discreet
from stages.report.samples import NAMES
from stages.show import lines
from stages.tables_ablate import facts, first_metric, row_of
from stages.tables_evaluate import difference, shown

TITLE = "What each choice brought"
PROMPTS = 2  # whose answers are shown
TOGETHER = 6  # curves of one chart; it has as many colours
MIDDLE, HALF = 50.0, 46.0  # of a strip that is 100 wide: where there is no difference, and how far it reaches

Figures = dict[str, Any]
Points = list[tuple[float, float]]


class Row(NamedTuple):
    """A contrast by one metric; places along a strip on which what is better lies to the right, -1 for none."""

    metric: str
    without: str
    with_: str
    difference: Estimate
    verdict: str
    look: str
    at: float
    low: float
    high: float


class Block(NamedTuple):
    """A contrast: what it shows, of which arms, what that comes to, and by which metrics."""

    brought: str
    against: str
    said: str
    rows: list[Row]


class Sample(NamedTuple):
    """A prompt, and who said what to it."""

    prompt: str
    answers: list[tuple[str, str]]


def section(source: Source) -> Section:
    """Arms, a block a contrast, answers to the first prompts, curves, notes."""
    version = source.run.current(STAGE)
    if version is None:
        return Section("ablation", TITLE, missing=f"{STAGE} has not been run.")
    figures = version.manifest.figures
    data = {
        "students": len(figures["seeds"]),
        "budget": figures["budget"],
        "prompts": figures["prompts"],
        "stale": stale(source, version),
        "arms": arms(figures),
        "blocks": blocks(figures),
        "samples": list(_samples(figures, version)),
        "curves": _curves(figures, version),
        "notes": version.manifest.notes,
    }
    return Section("ablation", TITLE, data)


def stale(source: Source, version: Version) -> str:
    """In what the ablation is not the one that `pipeline ablate` would make now; "" where it is."""
    here = source.file.parent
    try:
        study = Study(source.file, source.overrides, source.plan, source.run)
        missing = study.find_sources()
        changed = flow.changes(version.manifest.settings, study.settings())
        if missing:
            changed.append(f"rows of {', '.join(missing)} would have to be made first")
        else:
            now = {one.fingerprint for one in study.inputs()}
            gone = [one for one in version.manifest.inputs if one.fingerprint not in now]
            changed += [f"it read {one.stage} {one.version}, which the plan does not lead to any more" for one in gone]
    except PipelineError as error:
        changed = [str(error).partition("\n")[0]]
    return discreet("; ".join(changed), here)


def arms(figures: Figures) -> Table:
    """A row an arm, with the first metric of which more or less is better; then the models beside them."""
    first = first_metric(figures)
    head = ["arm", "trained on", "rows", "times seen", "last loss", *([first["label"]] if first else [])]
    rows: list[list[str | Estimate]] = []
    for arm in figures["arms"]:
        rows.append([*facts(arm), *_values(first, arm["values"])])
    for model in figures["beside"]:
        name = NAMES.get(model["model"], model["model"])
        rows.append([name, "", "", "", "", *_values(first, model["values"])])
    return Table(head, rows, tuple(head[2:]))


def _values(metric: Figures | None, values: Figures) -> list[Estimate]:
    """A metric's value in a list; none where there is no metric."""
    if metric is None:
        return []
    found = values.get(metric["name"], {})
    value, low, high = (
        shown(metric["style"], found[key]) if found.get(key) is not None else "" for key in ("value", "low", "high")
    )
    return [Estimate(value, f"{low} to {high}" if low and high else "")]


def blocks(figures: Figures) -> list[Block]:
    """A block a contrast, a row a metric. Strips of one metric have one scale, so that blocks can be compared."""
    spots: dict[str, list[Spot]] = {}
    rows: dict[tuple[str, str, str], list[Figures]] = {}
    for one in figures["contrasts"]:
        rows.setdefault((one["brought"], one["first"], one["second"]), []).append(one)
        if (known := spot(one)) is not None:
            spots.setdefault(one["metric"], []).append(known)
    reach = {metric: max(map(abs, ends(found))) for metric, found in spots.items()}
    return [
        Block(brought, f"{first} against {second}", _said(found), [_row(one, reach) for one in found])
        for (brought, first, second), found in rows.items()
    ]


def _said(contrast: list[Figures]) -> str:
    """How many metrics say what."""
    counts = Counter(one["verdict"] for one in contrast)
    found = [f"{word} by {counts[word]}" for word in ("better", "worse") if counts[word]]
    return f"{', '.join(found)} of {len(contrast)} metrics" if found else "no difference shown"


def _row(one: Figures, reach: dict[str, float]) -> Row:
    known = spot(one)
    row = row_of(one if known else one | {"difference": None})
    value, _, between = Text.from_markup(difference(row)).plain.partition(" (")
    without, with_ = ("" if number is None else shown(row.style, number) for number in (row.before, row.after))
    if row.style == "perplexity":
        value = value.replace("x", "× ")  # as the evaluation has it
    told = Estimate(value or "undefined", between.removesuffix(")"))
    verdict = one["verdict"] if known else ""
    look = verdict if verdict in ("better", "worse") else "plain"
    at = low = high = -1.0
    if known is not None:
        scale = HALF / reach[row.metric] * (-1 if row.better == "lower" else 1)
        at = _place(known.at * scale)
        if known.low is not None and known.high is not None:
            low, high = sorted((_place(known.low * scale), _place(known.high * scale)))
    return Row(row.label, without, with_, told, verdict or "no interval", look, at, low, high)


def _place(offset: float) -> float:
    return round(MIDDLE + min(HALF, max(-HALF, offset)), 1)


def _samples(figures: Figures, version: Version) -> Iterator[Sample]:
    """The first prompts that were answered: the held-out answer, every arm's first student, the models beside."""
    file = version.path / "outputs.jsonl"
    for row in lines(file, PROMPTS) if file.is_file() else []:
        names = [arm["arm"] for arm in figures["arms"]] + [model["model"] for model in figures["beside"]]
        said = [(NAMES.get(name, name), row["answers"][name][0]) for name in names if row["answers"].get(name)]
        if said:
            whole = [(NAMES["heldout"], row["heldout"]), *said]
            yield Sample(cut(row["prompt"]), [(name, cut(text)) for name, text in whole])


def _curves(figures: Figures, version: Version) -> list[chart.Plot]:
    """The loss of each arm's first student; where arms are many several charts, the plan's own arm in each."""
    known = {info.file for info in version.manifest.files}
    found: dict[str, Points] = {}
    for arm in figures["arms"]:
        file = f"curves/{arm['arm']}-{figures['seeds'][0]}.jsonl"
        if file in known and len(points := _points(version, file)) > 1:
            found[arm["arm"]] = points
    if len(found) <= TOGETHER:
        return [chart.plot(found)] if found else []
    own = {name: found.pop(name) for name in [figures["own"]] if name in found}
    names, step = list(found), TOGETHER - len(own)
    return [
        chart.plot(own | {name: found[name] for name in names[start : start + step]})
        for start in range(0, len(names), step)
    ]


def _points(version: Version, file: str) -> Points:
    with (version.path / file).open("rb") as opened:
        rows = [orjson.loads(line) for line in opened]
    pairs = [(row.get("step"), row.get("loss")) for row in rows]
    return [(x, y) for x, y in pairs if isinstance(x, int | float) and isinstance(y, int | float) and math.isfinite(y)]
