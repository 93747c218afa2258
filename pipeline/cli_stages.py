"""Commands that run the plan's stages: all of them, or one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.cli_look import Again, Input, Json, Limit, PlanPath, Quiet, Retry, Set, open_plan, put, retry_sorts

work = typer.Typer()


def _work(path: Path, names: Callable[[Any], list[str]], overrides: list[str], options: Any, *, json: bool) -> None:
    from stages import flow, tables

    plan, run = open_plan(path, overrides)
    versions = flow.run_stages(plan, run, names(plan), options)
    if json:
        put([v.manifest.model_dump() for v in versions])
    else:
        tables.summary(run, versions)


@work.command()
def run(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006  (typer copies it)
    first: Annotated[str, typer.Option("--from", metavar="STAGE", help="Begin here, on what is there.")] = "",
    last: Annotated[str, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = "",
    limit: Limit = None,
    again: Again = False,
    retry: Retry = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the plan's stages; whatever exists already is taken as it is."""
    from stages import flow

    console.set_quiet(quiet)
    names = partial(flow.between, first=first, last=last)
    _work(plan, names, overrides, flow.Options(limit=limit, again=again, retry=retry_sorts(retry)), json=json)


@work.command()
def generate(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006
    limit: Limit = None,
    again: Again = False,
    retry: Retry = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The teacher answers the seeds."""
    from stages import flow

    console.set_quiet(quiet)
    options = flow.Options(limit=limit, again=again, retry=retry_sorts(retry))
    _work(plan, lambda p: ["generate"], overrides, options, json=json)


@work.command("filter")
def filter_(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006
    input: Input = "",
    limit: Limit = None,
    again: Again = False,
    everything: Annotated[bool, typer.Option("--all", help="Measure what one rule dropped by the rest, too.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show for each threshold the values, other thresholds, rows close by.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rules, then a judge; what is dropped is kept with its reason."""
    from stages import explain as thresholds
    from stages import flow

    console.set_quiet(quiet)
    overrides = [*overrides, *(["filter.measure=all"] if everything else [])]
    options = flow.Options(input=input, limit=limit, again=again)
    if not explain:
        _work(plan, lambda p: ["filter"], overrides, options, json=json)
        return
    loaded, run_ = open_plan(plan, overrides)
    (version,) = flow.run_stages(loaded, run_, ["filter"], options)
    found = thresholds.explain(loaded.stage("filter"), version)
    if json:
        put([threshold.plain() for threshold in found])
        return
    from stages import tables

    for threshold in found:
        console.print_out(tables.explained(threshold))


@work.command()
def curate(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006
    input: Input = "",
    limit: Limit = None,
    again: Again = False,
    sweep: Annotated[
        str, typer.Option("--sweep", metavar="SIZES", help="Choose 250,500,1000: how much more does more cover?")
    ] = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Embed, leave out near-duplicates, keep few but good and diverse records."""
    from stages import flow

    console.set_quiet(quiet)
    options = flow.Options(input=input, limit=limit, again=again)
    if not sweep:
        _work(plan, lambda p: ["curate"], overrides, options, json=json)
        return
    from stages import sweep as sizes
    from stages import tables_curate

    loaded, run_ = open_plan(plan, overrides)
    found = sizes.sweep(loaded, run_, sizes.sizes(sweep), options)
    if json:
        put([size.plain() for size in found])
        return
    console.print_out(tables_curate.sizes(found))


@work.command()
def train(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006
    input: Input = "",
    limit: Limit = None,
    again: Again = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Show rows as they would be fed, and what is wrong with them; train nothing."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the student on what was kept."""
    from stages import flow

    console.set_quiet(quiet)
    options = flow.Options(input=input, limit=limit, again=again)
    if not check:
        _work(plan, lambda p: ["train"], overrides, options, json=json)
        return
    from stages import tables_train, train_check

    loaded, run_ = open_plan(plan, overrides)
    found = train_check.check(loaded, run_, options)
    if json:
        put(found.plain())
    else:
        console.print_out(tables_train.report(found.preflight, found.seconds))
    found.preflight.refuse()


@work.command()
def evaluate(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006
    input: Input = "",
    limit: Limit = None,
    again: Again = False,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Two evaluations side by side: 0001 0002, or folders."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Teacher, untrained and trained student on held-out prompts."""
    from stages import flow

    console.set_quiet(quiet)
    if compare is None:
        options = flow.Options(input=input, limit=limit, again=again)
        _work(plan, lambda p: ["evaluate"], overrides, options, json=json)
        return
    from pipeline.visible import visible
    from stages import compare as beside
    from stages import tables_evaluate

    loaded, run_ = open_plan(plan, overrides)
    before, after = (beside.named(run_, name) for name in compare)
    found = beside.compare(before, after, loaded.seed)
    if json:
        put(found.plain())
        return
    console.print_out(tables_evaluate.compared(found))
    for note in found.notes:
        console.print_out(f"differs: {visible(note)}")
