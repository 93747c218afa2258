"""The command that writes a run as one page."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import console
from pipeline.cli_look import PlanPath, Quiet, Set, open_plan

reporting = typer.Typer()


@reporting.command()
def report(
    plan: PlanPath,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Where to; else the run's folder.")] = None,
    overrides: Set = [],  # noqa: B006
    quiet: Quiet = False,
) -> None:
    """Write one HTML page: funnel, thresholds, drops, map, training, evaluation, cost, lineage. It works offline."""
    from stages import report as reports

    console.set_quiet(quiet)
    loaded, run_ = open_plan(plan, overrides)
    console.print_out(str(reports.write(loaded, run_, plan, tuple(overrides), to)))
