"""What a person wants to see of an export: every form beside the student."""

from collections.abc import Sequence

from rich.table import Table

from pipeline import console
from stages.export import Exported, Sized

COLUMNS = ("size", "difference", "same token", "KL", "reads", "writes")


def forms(found: Sequence[Exported], least: float) -> Table:
    """Sizes, agreement, and speed beside the student's; what agrees on less than `least` of the tokens is red."""
    newest = next((e for e in found if e.made == "now"), found[0]).report
    title = f"Forms of {newest.student}, checked on {newest.agreement.tokens:,} tokens"
    table = console.table("", *COLUMNS, title=title, right=COLUMNS)
    table.add_row("the student", _size(newest.original), "", "", "", *_speeds(newest.original, None))
    for form, _, report, _ in found:
        agreed = report.agreement
        share = f"{agreed.top1:.1%}"
        table.add_row(
            form.name, _size(report.size), f"{agreed.largest:.2g}",
            share if agreed.top1 >= least else f"[red]{share} !![/]",
            f"{agreed.kl:.1e}", *_speeds(report.size, report.original),
        )  # fmt: skip
    return table


def _size(sized: Sized) -> str:
    return f"{sized.bytes / 1e6:,.1f} MB"


def _speeds(sized: Sized, original: Sized | None) -> list[str]:
    """Tokens a second, and how many times the student's in the same run."""
    if sized.speed is None:
        return ["", ""]
    pairs = [(sized.speed.forward, "forward"), (sized.speed.decode, "decode")]
    if original is None or original.speed is None:
        return [f"{now:,.0f} tok/s" for now, _ in pairs]
    return [f"{now:,.0f} tok/s ({now / getattr(original.speed, name):.1f}x)" for now, name in pairs]
