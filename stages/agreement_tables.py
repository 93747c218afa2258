"""How calibrate and review show what they found."""

from rich.table import Table

from pipeline import console
from stages.agreement import Figure
from stages.calibrate import Calibration
from stages.review import Read


def calibration(found: Calibration) -> Table:
    """A judge's figures, one a line, with their 95 % intervals."""
    title = f"{found.rule} against {found.rows:,} {found.gold} of people"
    if found.unmeasured:
        title += "; no verdict on " + ", ".join(f"{n:,} ({reason})" for reason, n in found.unmeasured.items())
    table = console.table("", "", "95 % interval", right=("", "95 % interval"), title=title)
    for figure in found.figures:
        table.add_row(figure.name.replace("_", " "), _number(figure), _between(figure))
    return table


def reviewed(found: Read) -> Table:
    """How many rows of every stratum people would keep."""
    title = f"{found.marked:,} rows marked, {found.unmarked:,} not; people and filters agree on {found.agree:.0%}"
    table = console.table("sampled as", "rows", "marked", "people keep", "95 % interval", title=title,
                          right=("rows", "marked", "people keep", "95 % interval"))  # fmt: skip
    for stratum in found.strata:
        share = "" if stratum.keep.value is None else f"{stratum.keep.value:.0%}"
        table.add_row(stratum.stratum, str(stratum.rows), str(stratum.marked), share, _between(stratum.keep))
    return table


def _number(figure: Figure) -> str:
    if figure.value is None:
        return "undefined"
    return f"{figure.value:.0f}" if figure.name.endswith("_rows") else f"{figure.value:.2f}"


def _between(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"{figure.low:.2f} to {figure.high:.2f}"
