"""What a person wants to see after a run: the funnel, some examples, why some were dropped, the scores."""

import math
from bisect import bisect_left
from collections import Counter
from itertools import islice

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline import console
from pipeline.records import Record
from pipeline.run import Run
from pipeline.store import Version
from pipeline.visible import visible
from stages.estimate import Estimate
from stages.explain import Threshold
from stages.show import lines
from stages.tables_curate import curated, number
from stages.tables_evaluate import evaluated

HEALTHY = (0.5, 0.8)  # pass rate of the filters that practitioners report as healthy


def brief(text: str, width: int = 400) -> str:
    """One paragraph, cut at a word, that no terminal obeys."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= width else line[:width].rsplit(" ", 1)[0] + " ..."


def funnel(versions: list[Version]) -> Table:
    """Every step of every stage: what came, what was kept, what was dropped and why."""
    table = console.table("stage", "step", "came", "kept", "dropped because", right=("came", "kept"), title="Funnel")
    for version in versions:
        for n, tally in enumerate(version.manifest.ledger):
            why = ", ".join(f"{r} {c}" for r, c in sorted(tally.dropped.items(), key=lambda i: (-i[1], i[0])))
            stage = version.manifest.stage if n == 0 else ""
            table.add_row(stage, console.cell(tally.step), f"{tally.came:,}", f"{tally.kept:,}", console.cell(why))
        if version.manifest.stage == "filter":
            table.add_row("", "", "", f"{pass_rate(version):.0%}", "passed all (healthy: 50-80 %)")
    return table


def pass_rate(version: Version) -> float:
    """Kept (held-out ones too) over all rows of a version."""
    counts = version.manifest.counts
    passed = counts.get("kept", 0) + counts.get("heldout", 0)
    return passed / max(1, passed + counts.get("dropped", 0))


def warnings(versions: list[Version]) -> list[str]:
    """Guard rails: figures outside what practitioners report as healthy."""
    found = []
    for version in versions:
        rate, figures = pass_rate(version), version.manifest.figures
        if version.manifest.stage == "filter" and not HEALTHY[0] <= rate <= HEALTHY[1]:
            word = "strict, or the teacher weak" if rate < HEALTHY[0] else "loose"
            found.append(f"the filters pass {rate:.0%} (healthy: 50-80 %): the rules may be {word}")
        if (ratio := figures.get("ratio")) and not 2.5 <= ratio <= 10:
            found.append(f"the teacher has {ratio:.1f} times the student's parameters (healthy: 3-10)")
    return found


def card(record: Record, answer: int = 600) -> RenderableType:
    """One record as a person reads it: what became of it, what was asked, what was said."""
    fate = f"dropped by {record.by}: {record.reason}" if record.dropped else "kept"
    why = f" ({record.detail})" if record.detail else ""
    measured = "  ".join(f"{c.name} {c.value:.4g}" for c in record.checks)
    body = Text()
    body.append(visible(f"{record.id}  {record.split}  {fate}{why}\n"), style="bold")
    body.append(visible(f"{measured}\n"), style="dim")
    body.append("asked: ", style="dim").append(brief(record.prompt, 200) + "\n")
    body.append("said:  ", style="dim").append(brief(record.answer, answer))
    return body


def examples(version: Version, n: int) -> RenderableType:
    """A few kept records."""
    title = Text(f"Kept by {version.manifest.stage}, for example", style="bold")
    return Group(title, *(piece for r in islice(version.read("kept"), n) for piece in (Text(), card(r))))


def drops(version: Version, n: int) -> RenderableType:
    """One dropped record for each of the commonest reasons."""
    seen: Counter[tuple[str, str]] = Counter()
    samples: dict[tuple[str, str], Record] = {}
    for record in version.read("dropped"):
        seen[record.by, record.reason] += 1
        samples.setdefault((record.by, record.reason), record)
    table = console.table("by", "reason", "rows", "for example", right=("rows",),
                          title=f"Dropped by {version.manifest.stage}")  # fmt: skip
    for (by, reason), count in seen.most_common(n):
        record = samples[by, reason]
        text = f"{record.detail}: {brief(record.answer, 160)}" if record.detail else brief(record.answer, 160)
        table.add_row(console.cell(by), reason, str(count), console.cell(text))
    return table


def side_by_side(version: Version, n: int) -> list[RenderableType]:
    """What each model answers to the same held-out prompts."""
    shown: list[RenderableType] = []
    for row in lines(version.path / "samples.jsonl", n):
        answers = {k: v for k, v in row.items() if k not in ("id", "prompt", "heldout")}
        text = "\n".join(f"[bold]{console.cell(name)}[/]: {escape(brief(answer))}" for name, answer in answers.items())
        shown.append(Panel(text, title=escape(brief(row["prompt"], 90)), title_align="left"))
    return shown


def prediction(found: Estimate) -> Table:
    """What a run will take: the pilot's own figures, the expectation, and its 95 % interval."""
    table = console.table("", "pilot", "whole run", "95 % interval", right=("pilot", "whole run", "95 % interval"),
                          title="Estimate")  # fmt: skip
    for figure in found.figures:
        share = " " in figure.name and figure.name.split()[-1] in ("keeps", "passes")
        show = "{:.0%}".format if share else _amount
        between = f"{show(figure.low)} to {show(figure.high)}"
        table.add_row(console.cell(figure.name), show(figure.pilot), show(figure.expected), between)
    return table


def _amount(value: float) -> str:
    return "without end" if math.isinf(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


BARS = " ▁▂▃▄▅▆▇█"


def explained(found: Threshold) -> RenderableType:
    """One threshold: how the values lie, what others would keep, and the rows on either side."""
    bound = number(found.threshold)
    head = Text(visible(f"{found.rule}: {found.setting} {bound}"), style="bold")
    head.append(f"  keeps {found.kept:,} of {found.measured:,} measured", style="")
    if len(found.counts) == 1:
        return Group(head, Text(f"  every value is {number(found.edges[0])}\n"))
    columns = [("at", "keeps"), *((number(near.threshold), f"{near.kept:,}") for near in found.nearby)]
    widths = [max(map(len, column)) for column in columns]
    nearby = ["  ".join(map(str.rjust, row, widths)) for row in zip(*columns, strict=True)]
    values = [number(sample.value) for sample in found.samples]
    rows = []
    for sample, value in zip(found.samples, values, strict=True):
        fate = "kept" if sample.kept else "dropped"
        line = f"  {fate:7}  {value:>{max(map(len, values))}}  {visible(sample.id)}  {brief(sample.text, 200)}"
        rows.append(Text(line, no_wrap=True, overflow="ellipsis"))
    return Group(head, *(Text(f"  {line}") for line in (*_bars(found, bound), *nearby)), *rows, Text())


def _bars(found: Threshold, bound: str) -> tuple[str, str]:
    """The histogram, and below it a mark where the threshold lies: within a bin, or on either side of all."""
    most = max(found.counts)
    bars = "".join(BARS[max(1, round(count / most * 8)) if count else 0] * 3 for count in found.counts)
    low, high = found.edges[0], found.edges[-1]
    line = f"{number(low)} {bars} {number(high)}"
    place = len(number(low)) + 2 + bisect_left(found.edges[1:-1], found.threshold) * 3
    if found.threshold < low:
        place = 0
    elif found.threshold > high:
        place = len(line) + 1
    return line, f"{' ' * place}^ {bound}"


def summary(run: Run, versions: list[Version]) -> None:
    """Print what was made, as talk."""
    made = {v.manifest.stage: v for v in versions}
    console.show(funnel(versions))
    for stage in ("curate", "filter", "generate"):
        if stage in made:
            console.show(examples(made[stage], 3))
            break
    if "curate" in made:
        console.show(curated(made["curate"]))
    for stage in ("filter", "generate"):
        if stage in made and made[stage].rows("dropped"):
            console.show(drops(made[stage], 6))
            break
    if "evaluate" in made:
        for panel in side_by_side(made["evaluate"], 2):
            console.show(panel)
        console.show(evaluated(made["evaluate"]))
    for note in warnings(versions):
        console.warn(note)
    console.say(f"everything is in {run.path}")
