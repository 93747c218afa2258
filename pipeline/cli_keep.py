"""Commands that keep a run: is it whole, take it elsewhere, go on there."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipeline import console
from pipeline.cli_look import Json, PlanPath, Quiet, Set, open_plan, put

keeping = typer.Typer()


@keeping.command()
def verify(
    plan: PlanPath,
    everything: Annotated[
        bool, typer.Option("--all", help="Every version, not only the current ones and what they were made from.")
    ] = False,
    overrides: Set = [],  # noqa: B006
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read everything the run has written, and list what is not as it was. Exits with 1 where something is wrong."""
    from stages import verify as verifying

    console.set_quiet(quiet)
    _, run_ = open_plan(plan, overrides)
    found = verifying.examine(run_, everything=everything)
    if json:
        findings = [finding._asdict() for finding in found.findings]
        put(found._asdict() | {"run": str(found.run), "whole": not found.problems, "findings": findings})
    else:
        if found.findings:
            table = console.table("", "where", "what", "what to do")
            for sort, where, what, todo in found.findings:
                sign = "[red]problem[/]" if sort == "problem" else sort
                table.add_row(sign, escape(where), escape(what), escape(todo))
            console.print_out(table)
        memo = f", {found.completions:,} answers in the memo" if found.completions is not None else ""
        console.print_out(f"{len(found.versions)} versions: {found.files:,} files, {found.rows:,} rows{memo}")
        console.print_out("whole" if not found.problems else f"{len(found.problems):,} problems")
    found.refuse()


@keeping.command()
def bundle(
    plan: PlanPath,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to make: .tar.gz or .tar.")],
    without_memo: Annotated[
        bool, typer.Option("--without-memo", help="Leave behind what models have answered.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the plan, its files and its run into one file: the current versions with what they were made from."""
    from stages import bundle as bundling

    console.set_quiet(quiet)
    _, run_ = open_plan(plan, [])
    made = bundling.pack(plan, run_, to, memo=not without_memo)
    models = [needed.model for needed in made.contents.models]
    if json:
        put({"file": str(made.file), "bytes": made.bytes, "sha256": made.sha256, "versions": made.versions,
             "files": len(made.contents.members), "models": models, "notes": made.contents.notes})  # fmt: skip
        return
    console.print_out(str(made.file))
    console.say(f"{len(made.contents.members):,} files, {made.bytes / 2**20:,.1f} MiB, sha256 {made.sha256}")
    if models:
        console.say(f"models stay behind: {', '.join(models)}")
    for note in made.contents.notes:
        console.say(f"note: {note}")
    console.say(f"on the other machine: pipeline unbundle {made.file.name} --to FOLDER")


@keeping.command()
def unbundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `pipeline bundle` made.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder for the plan and its files.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Unpack a bundle and check all of it; the run goes where runs are ($PIPELINE_RUNS, else data/runs)."""
    from stages import unbundle as unbundling
    from stages.tables import brief
    from stages.verify_found import plain

    console.set_quiet(quiet)
    done = unbundling.unpack(file, to)
    next_ = f"pipeline status {to / done.plan.name}"
    if json:
        found = {"plan": str(done.plan), "run": str(done.run), "versions": done.verified.versions}
        put(found | {"states": dict(done.states), "models": done.models, "warnings": done.warnings,
                     "notes": done.contents.notes, "next": next_})  # fmt: skip
        return
    console.say(f"plan: {done.plan}\nrun:  {done.run}, {len(done.verified.versions)} versions, whole")
    for stage, state in done.states:
        console.say(f"{stage}: {brief(state, 160)}")
    for note in done.contents.notes:
        console.say(f"note: {plain(note)}")
    for said in (*done.models, *done.warnings):
        console.warn(said)
    console.print_out(next_)
