"""Commands that give a run's work to others: the data in other formats, cards, and the Hub."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pipeline import console
from pipeline.cli_look import Json, PlanPath, Quiet, Set, open_plan, put
from pipeline.errors import UsageError
from pipeline.visible import visible

publishing = typer.Typer()

Repo = Annotated[str, typer.Option("--dataset", metavar="OWNER/NAME", help="The data set's repository on the Hub.")]
ModelRepo = Annotated[str, typer.Option("--model", metavar="OWNER/NAME", help="The model's repository on the Hub.")]
Rows = Annotated[str, typer.Option("--input", metavar="STAGE/VERSION", help="Other rows than the current ones.")]
Heldout = Annotated[bool, typer.Option("--heldout", help="The held-out rows, too.")]
Dropped = Annotated[bool, typer.Option("--dropped", help="The dropped rows, too, with their reasons.")]
Pairs = Annotated[bool, typer.Option("--pairs", help="The preference pairs, too.")]


@publishing.command()
def dataset(
    plan: PlanPath,
    stage: Annotated[str, typer.Argument(help="curate, filter or generate; the last that has rows")] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="messages, prompt_completion, sharegpt, alpaca, llama_factory, axolotl, parquet, openai, preference.",
        ),
    ] = "messages",
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE_OR_FOLDER", help="Where to; lines of JSON go to stdout else.")
    ] = None,
    input: Annotated[str, typer.Option("--input", help="Another version (0002) than the current one.")] = "",
    overrides: Set = [],  # noqa: B006
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The kept rows in the format that another trainer reads; rows it cannot hold are counted and named."""
    from stages.formats import export

    console.set_quiet(quiet)
    _, run_ = open_plan(plan, overrides)
    chosen, version = export.format_of(form), export.rows_of(run_, stage, input)
    if to is None:
        if json:
            raise UsageError(
                "--json says what was written, and the rows themselves go to stdout: name a place with --to"
            )
        done = export.stream(run_, version, chosen)
    else:
        done = export.export(run_, version, chosen, to)
    _tell(done)
    if json:
        put(export.plain(done))
    else:
        for file in done.files:
            console.print_out(str(file))


def _tell(done: Any) -> None:
    console.say(f"{done.format}: {done.rows:,} rows of {done.version}")
    for reason, rows in done.left.items():
        console.warn(f"{rows:,} rows left out: {reason} (the format has no place for them)")
    for what, rows in done.lost.items():
        console.warn(f"{rows:,} rows written without their {what}")
    for note in done.notes:
        console.warn(note)


@publishing.command()
def card(
    plan: PlanPath,
    which: Annotated[str, typer.Argument(help="dataset, model or croissant")] = "dataset",
    repo: Repo = "",
    model: ModelRepo = "",
    input: Rows = "",
    heldout: Heldout = False,
    dropped: Dropped = False,
    pairs: Pairs = False,
    overrides: Set = [],  # noqa: B006
) -> None:
    """The card of the data set or of the model as the Hub shows it, or the data set's Croissant metadata."""
    from stages import card_data, card_model, publish
    from stages.card_croissant import croissant
    from stages.card_facts import gather
    from stages.card_files import Want, items
    from stages.formats.export import rows_of
    from stages.licences import chain

    loaded, run_ = open_plan(plan, overrides)
    for name in filter(None, (repo, model)):
        publish.check_repo(name)
    want = Want(heldout, dropped, pairs)
    if which == "model":
        console.print_out(card_model.card(card_model.taught(loaded, run_), model, repo).rstrip())
        return
    if which not in ("dataset", "croissant"):
        raise UsageError(f"{which}: there are cards of dataset, model and croissant")
    facts = gather(loaded, run_, rows_of(run_, name=input))
    if which == "dataset":
        console.print_out(card_data.card(facts, want, repo).rstrip())
        return
    if not repo:
        raise UsageError("Croissant names the data set's address", hint="--dataset OWNER/NAME")
    put(croissant(facts, items(facts, want), chain(facts.sources()), repo))


@publishing.command()
def push(
    plan: PlanPath,
    repo: Repo = "",
    model: ModelRepo = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show exactly what would go; nothing is sent.")] = False,
    private: Annotated[bool, typer.Option("--private", help="For nobody else to see.")] = False,
    input: Rows = "",
    heldout: Heldout = False,
    dropped: Dropped = False,
    pairs: Pairs = False,
    licence_checked: Annotated[
        bool, typer.Option("--licence-checked", help="I have read the terms that are named, and they allow it.")
    ] = False,
    overrides: Set = [],  # noqa: B006
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the data set, the model, or both on the Hugging Face Hub; the token is $HF_TOKEN."""
    from stages import publish
    from stages.card_files import Want

    console.set_quiet(quiet)
    loaded, run_ = open_plan(plan, overrides)
    options = publish.Options(repo, model, input, Want(heldout, dropped, pairs), licence_checked)
    if not dry_run:
        publish.token()
    with publish.assembled(loaded, run_, options) as parcels:
        if dry_run and json:
            put([parcel.plain() for parcel in parcels])
        elif dry_run:
            for parcel in parcels:
                _show(parcel, private=private)
        for note in (note for parcel in parcels for note in parcel.notes):
            console.warn(note)
        publish.refuse(parcels, options)
        if dry_run:
            return
        places = publish.send(parcels, private=private)
        if json:
            put([parcel.plain() | {"url": place} for parcel, place in zip(parcels, places, strict=True)])
        else:
            console.print_out("\n".join(places))


def _show(parcel: Any, *, private: bool) -> None:
    files = parcel.files()
    seen = "private, where it is made anew" if private else "public, unless it is there and private"
    console.print_out(f"{parcel.kind} {parcel.repo} ({seen}): {parcel.message}")
    table = console.table("file", "bytes", right=("bytes",))
    for file in files:
        table.add_row(escape(file.path), f"{file.bytes:,}")
    table.add_row("", f"{sum(file.bytes for file in files):,}")
    console.print_out(table)
    console.print_out(visible(f"\n{parcel.card}"))
