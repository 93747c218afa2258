"""The choice of rows beside random choices of as many, and who makes up the whole and the choice."""

from typing import Any, NamedTuple

from stages.report.base import Section, Source, Table, not_run
from stages.tables_curate import NAMES, number, verdict

TITLE = "The choice beside random ones"
WORD = {"[green]better[/]": "better", "[yellow]worse[/]": "worse"}


class Compared(NamedTuple):
    """One figure. Places from 0 to 100 along a common strip: of the choice, and of 95 % of the random ones."""

    name: str
    chosen: str
    random: str
    between: str
    before: str
    word: str
    at: float
    low: float
    high: float


def section(source: Source) -> Section:
    """Figures of the choice, shares, and the loneliest rows."""
    version = source.version("curate")
    if version is None:
        return not_run("selection", TITLE, source, "curate")
    made = version.manifest.figures
    if not made.get("comparison"):
        return Section("selection", TITLE, missing=f"curate {version.name} compared its choice with nothing.")
    found = [_compared(name, one) for name, one in made["comparison"]["figures"].items()]
    data = {
        "chosen": made["comparison"]["chosen"],
        "draws": made["comparison"]["draws"],
        "figures": found,
        "shares": _shares(made.get("shares", {})),
        "isolated": made.get("isolated", []),
    }
    return Section("selection", TITLE, data)


def _compared(name: str, one: dict[str, Any]) -> Compared:
    drawn, value = one["random"], one["chosen"]
    at = low = high = -1.0
    if drawn and value is not None:
        ends = [value, drawn["low"], drawn["high"]]
        first, span = min(ends), max(ends) - min(ends)
        at, low, high = (round(8 + 84 * (v - first) / span, 1) if span else 50.0 for v in ends)
    word = verdict(one)
    between = f"{number(drawn['low'])} to {number(drawn['high'])}" if drawn else ""
    return Compared(
        NAMES.get(name, name), number(value), number(drawn["mean"]) if drawn else "", between, number(one["before"]),
        WORD.get(word, word), at, low, high,
    )  # fmt: skip


def _shares(found: dict[str, dict[str, list[float]]]) -> Table:
    """As `pipeline curate` prints them; fields with one value only are left out."""
    rows = [
        [field if n == 0 else "", value, f"{before:.0%}", f"{after:.0%}"]
        for field, values in found.items() if len(values) > 1
        for n, (value, (before, after)) in enumerate(values.items())
    ]  # fmt: skip
    return Table(["", "", "of all", "of the chosen"], rows, ("of all", "of the chosen"))
