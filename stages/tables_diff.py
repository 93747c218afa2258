"""What two versions differ in, as a person reads it."""

from rich.console import Group as Together
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline import console
from pipeline.visible import line, visible
from stages.diff import Difference, Moved, Step
from stages.diff_rows import Group
from stages.tables_curate import number

FIGURES = 30  # figures shown; the rest is in --json
WIDE = 240  # characters of a setting or of an example


def told(found: Difference) -> RenderableType:
    """Settings, counts, the funnel, rows with examples, checks, figures: only what has changed."""
    parts: list[RenderableType] = [Text(f"{found.stage}  {found.before} -> {found.after}", style="bold")]
    parts += _listed("settings", found.settings) + _listed("read", found.inputs)
    if found.counts:
        parts += [Text(), _figures("counts", found.counts)]
    if found.ledger:
        parts += [Text(), _funnel(found.ledger)]
    parts += _rows(found)
    if found.checks:
        table = console.table("check", "rows", "mean before", "mean after", "rows moved", title="Measured in both",
                              right=("rows", "mean before", "mean after", "rows moved"))  # fmt: skip
        for one in found.checks:
            numbers = f"{one.rows:,}", number(one.before), number(one.after), f"{one.moved:,}"
            table.add_row(visible(one.name), *numbers)
        parts += [Text(), table]
    if found.figures:
        shown = [one for one in found.figures if ".random." not in one.name][:FIGURES]
        parts += [Text(), _figures("figures", shown)]
        if more := len(found.figures) - len(shown):
            parts.append(Text(f"and {more} more: --json", style="dim"))
    return Together(*parts)


def _listed(name: str, lines: list[str]) -> list[RenderableType]:
    shown = [Padding(Text(line(one, WIDE)), (0, 0, 0, 2), expand=False) for one in lines]
    return [Text(f"\n{name}", style="bold"), *shown] if lines else []


def _figures(title: str, figures: list[Moved]) -> Table:
    table = console.table("", "before", "after", "change", title=title, right=("before", "after", "change"))
    for one in figures:
        table.add_row(visible(one.name), number(one.before), number(one.after), _change(one))
    return table


def _funnel(steps: list[Step]) -> Table:
    table = console.table("step", "came", "kept", "dropped because", title="funnel", right=("came", "kept"))
    for step in steps:
        why = ", ".join(f"{one.name} {_pair(one)}" for one in step.dropped)
        table.add_row(visible(step.step), _pair(step.came), _pair(step.kept), visible(why))
    return table


def _rows(found: Difference) -> list[RenderableType]:
    head = f"\nrows: {found.same:,} the same" + (", but:" if found.groups else "")
    parts: list[RenderableType] = [Text(head, style="bold")]
    for group in found.groups:
        parts.append(Padding(Text(f"{group.rows:,} {_happened(group)}"), (0, 0, 0, 2), expand=False))
        for example in group.examples:
            why = (example.after or example.before) if group.what in ("fate", "added") else ""
            detail = line(why[why.index(" (") + 1 :], 80) + "  " if " (" in why else ""
            said = Text.assemble((f"{visible(example.id)}  ", "dim"), detail, (line(example.text, WIDE), "dim"),
                                 no_wrap=True, overflow="ellipsis")  # fmt: skip
            parts.append(Padding(said, (0, 0, 0, 6), expand=False))
    return parts


def _happened(group: Group) -> str:
    match group.what:
        case "added":
            return f"only in the second ({group.after})" if group.after != "there" else "only in the second"
        case "removed":
            return f"only in the first ({group.before})" if group.before != "there" else "only in the first"
        case "content":
            return f"with other words ({group.after})" if group.after != "there" else "with other words"
    return f"{group.before} -> {group.after}"


def _pair(one: Moved) -> str:
    before, after = number(one.before), number(one.after)
    return before if before == after else f"{before or 0} -> {after or 0}"


def _change(one: Moved) -> str:
    if one.before is None or one.after is None:
        return "new" if one.before is None else "gone"
    by = one.after - one.before
    sign = "+" if by > 0 else "-"
    share = f" ({sign}{abs(by / one.before):.1%})" if one.before else ""
    return f"{sign}{number(abs(by))}{share}"
