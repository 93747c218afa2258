"""The command that finds out what each choice of the plan brought."""

from typing import Annotated

import typer

from pipeline import console
from pipeline.cli_look import Again, Json, PlanPath, Quiet, Set, open_plan, put

ablation = typer.Typer()


@ablation.command()
def ablate(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006
    again: Again = False,
    check: Annotated[
        bool, typer.Option("--check", help="Show arms, and which students are still to be trained; train nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the student on other rows and by other settings, for as many tokens: what did each choice bring?"""
    from stages import tables_ablate
    from stages.ablation import study as studies
    from stages.ablation.forecast import forecast

    console.set_quiet(quiet)
    loaded, run_ = open_plan(plan, overrides)
    study = studies.Study(plan, tuple(overrides), loaded, run_)
    if check:
        found = forecast(study)
        if json:
            put(found.plain())
        else:
            console.print_out(tables_ablate.forecast(found))
        return
    version = studies.ablate(study, again=again)
    if json:
        put(version.manifest.model_dump())
        return
    console.print_out(tables_ablate.ablated(version))
    for note in version.manifest.notes:
        console.print_out(f"note: {note}")
