"""Commands that answer questions of what lies on disk: why a record is where it is, and what two versions differ in."""

from typing import Annotated

import typer

from pipeline import console
from pipeline.cli_look import Json, PlanPath, Set, open_plan, put
from pipeline.cli_pager import paged

ask = typer.Typer()


@ask.command()
def why(
    plan: PlanPath,
    record: Annotated[str, typer.Argument(metavar="ID", help="A record's id, or how it begins.")],
    input: Annotated[
        str, typer.Option("--input", metavar="VERSION", help="What led to this version (filter/0001) and followed.")
    ] = "",
    overrides: Set = [],  # noqa: B006
    json: Json = False,
) -> None:
    """One record's whole story: seed, question, answer, every measure and vote, its neighbours, its training rows."""
    from stages import tables_why
    from stages.why import why as find

    loaded, run_ = open_plan(plan, overrides)
    story = find(loaded, run_, record, input)
    with paged():
        if json:
            put(story.model_dump())
        else:
            console.print_out(tables_why.told(story))


@ask.command()
def diff(
    plan: PlanPath,
    before: Annotated[str, typer.Argument(metavar="V1", help="A version: filter/0001, or its folder.")],
    after: Annotated[str, typer.Argument(metavar="V2", help="The other one: filter/0002, or only 0002.")],
    stage: Annotated[str, typer.Option("--stage", help="The stage, where both are only numbers.")] = "",
    overrides: Set = [],  # noqa: B006
    json: Json = False,
) -> None:
    """What two versions of a stage differ in: settings, rows and their fates, measures, figures."""
    from stages import diff as versions
    from stages import tables_diff
    from stages.lineage import pick

    _, run_ = open_plan(plan, overrides)
    first = pick(run_, before, stage)
    found = versions.diff(first, pick(run_, after, first.manifest.stage))
    with paged():
        if json:
            put(found.model_dump())
        else:
            console.print_out(tables_diff.told(found))
