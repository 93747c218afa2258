"""How calibrate and review show what they found."""

from rich.table import Table

from pipeline import console
from stages.calibrate import Calibration
from stages.review import Read


def calibration(found: Calibration) -> Table:
    """A judge's figures, one a line, with their 95 % intervals."""
    title = f"{console.cell(found.rule)} against {found.rows:,} {found.gold} of people"
    if found.unmeasured:
        title += "; no verdict on " + ", ".join(f"{n:,} ({reason})" for reason, n in found.unmeasured.items())
    table = console.table("", "value", "95 % interval", right=("value", "95 % interval"), title=title)
    for figure in found.figures:
        table.add_row(figure.name.replace("_", " "), figure.shown, figure.between)
    return table


def reviewed(found: Read) -> Table:
    """How many rows of every stratum people would keep."""
    title = f"{found.marked:,} rows marked, {found.unmarked:,} not; people and filters agree on {found.agree:.0%}"
    table = console.table("sampled as", "rows", "marked", "people keep", "95 % interval", title=title,
                          right=("rows", "marked", "people keep", "95 % interval"))  # fmt: skip
    for stratum in found.strata:
        share = "" if stratum.keep.value is None else f"{stratum.keep.value:.0%}"
        table.add_row(
            console.cell(stratum.stratum), str(stratum.rows), str(stratum.marked), share, stratum.keep.between
        )
    return table
