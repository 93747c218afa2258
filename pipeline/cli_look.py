"""Commands that only look: nothing here opens a model, and only `review` writes. And the options all commands share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from pipeline import console, doctor
from pipeline.cli_pager import paged
from pipeline.errors import UsageError
from pipeline.run import Run, runs_home
from pipeline.store import Shard

look = typer.Typer()

PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a YAML file.")]
Set = Annotated[list[str], typer.Option("--set", metavar="PLACE=VALUE", help="Override one setting of the plan.")]
Input = Annotated[str, typer.Option("--input", help="Read this version (0002) or JSONL file instead.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N seeds or rows.")]
Again = Annotated[bool, typer.Option("--again", help="Run even if this version exists; makes a new one.")]
Retry = Annotated[
    str, typer.Option("--retry", metavar="SORTS", help="Ask again for dropped rows: failed, truncated, unreadable.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")]


def open_plan(path: Path, overrides: list[str]) -> tuple[Any, Run]:
    """The plan and its run."""
    from stages import plan

    loaded = plan.load(path, tuple(overrides))
    return loaded, Run(runs_home() / loaded.name)


def retry_sorts(text: str) -> frozenset[Any]:
    """`--retry truncated,failed` as a set. Raises UsageError for another word."""
    sorts = {word.strip() for word in text.split(",") if word.strip()}
    if unknown := sorts - {"failed", "truncated", "unreadable"}:
        raise UsageError(f"--retry {unknown.pop()}: it takes failed, truncated and unreadable, with commas between")
    return frozenset(sorts)


def put(value: Any) -> None:
    """JSON to stdout; paths and numbers that are keys become text."""
    console.print_out(orjson.dumps(value, os.fspath, orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode())


@look.command()
def check(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006
    estimate: Annotated[
        int,
        typer.Option("--estimate", metavar="[SEEDS]", min=0, help="Ask about so many seeds (32), predict the rest."),
    ] = 0,
    json: Json = False,
) -> None:
    """Read the plan, say what would run and why. Opens no model and writes nothing, but for --estimate."""
    from pipeline.visible import visible
    from stages import checks, tables

    loaded, run_ = open_plan(plan, overrides)
    found = checks.examine(loaded, run_)
    if estimate:
        from stages.estimate import estimate as predict

        predicted = predict(loaded, run_, estimate)
        if json:
            put([figure._asdict() for figure in predicted.figures] + [{"note": note} for note in predicted.notes])
        else:
            console.print_out(tables.prediction(predicted))
            for note in predicted.notes:
                console.print_out(f"note: {visible(note)}")
        return
    if json:
        put([row._asdict() for row in found.rows] + [{"note": note} for note in found.notes])
        return
    console.print_out(visible(f"{loaded.name}: {loaded.about}".rstrip(": ")))
    table = console.table("stage", "would", "because")
    for row in found.rows:
        table.add_row(row.stage, row.would, console.cell(row.why))
    console.print_out(table)
    for note in found.notes:
        console.print_out(f"note: {visible(note)}")


@look.command()
def status(plan: PlanPath, overrides: Set = [], json: Json = False) -> None:  # noqa: B006
    """The current version of every stage, and whether it is what the plan asks for."""
    from stages import flow, tables

    loaded, run_ = open_plan(plan, overrides)
    steps = flow.status(loaded, run_)
    if json:
        rows = [
            {"stage": s.stage, "state": s.state, "version": s.version.name if s.version else None, "why": s.why}
            | ({"counts": s.version.manifest.counts} if s.version else {})
            for s in steps
        ]
        put(rows)
        return
    table = console.table("stage", "version", "state", "kept", "held out", "dropped", "",
                          right=("kept", "held out", "dropped"), title=console.cell(str(run_.path)))  # fmt: skip
    for step in steps:
        counts = step.version.manifest.counts if step.version else {}
        numbers = [f"{counts.get(k, 0):,}" if counts.get(k) else "" for k in ("kept", "heldout", "dropped")]
        table.add_row(
            step.stage, step.version.name if step.version else "", step.state, *numbers, console.cell(step.why)
        )
    console.print_out(table)
    for note in tables.warnings([s.version for s in steps if s.version]):
        console.print_out(f"note: {note}")


@look.command()
def show(
    plan: PlanPath,
    stage: Annotated[str, typer.Argument(help="generate, filter, curate, train or evaluate")],
    dropped: Annotated[
        str, typer.Option("--dropped", metavar="[REASON]", help="Dropped rows, of one reason or filter.")
    ] = "",
    heldout: Annotated[bool, typer.Option("--heldout", help="Held-out rows.")] = False,
    n: Annotated[int | None, typer.Option("-n", min=0, help="How many rows: 5, or those of the sample.")] = None,
    where: Annotated[str, typer.Option("--where", metavar="SQL", help='For example "scores.judge < 3".')] = "",
    sample: Annotated[int | None, typer.Option("--sample", metavar="N", min=1, help="N rows, drawn by chance.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the sample; the plan's when left out.")] = None,
    columns: Annotated[
        str, typer.Option("--columns", metavar="NAMES", help="A table: id,scores.judge,meta.topic,answer")
    ] = "",
    version: Annotated[str, typer.Option("--version", help="Another version than the current one.")] = "",
    overrides: Set = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Rows of a stage: kept ones, or dropped ones with their reasons. With --json one object a line."""
    from itertools import islice

    from stages import show as rows

    loaded, run_ = open_plan(plan, overrides)
    loaded.stage(stage)
    found = run_.pick(stage, version) if version else run_.current(stage)
    if found is None:
        raise UsageError(f"{stage} has not been run", hint=f"pipeline {stage} {plan}")
    shard: Shard = "dropped" if dropped else "heldout" if heldout else "kept"
    wanted = rows.Wanted(shard, dropped, where, sample, loaded.seed if seed is None else seed)
    lines = islice(rows.rows(found, wanted), n if n is not None else sample or 5)
    with paged():
        if names := [name.strip() for name in columns.split(",") if name.strip()]:
            _in_columns(rows.columns(found, shard, lines, names), names, json=json)
        else:
            _one_by_one(lines, json=json)


def _in_columns(rows: Iterator[dict[str, Any]], names: list[str], *, json: bool) -> None:
    from stages import tables_show

    if json:
        _one_by_one((orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows), json=True)
    else:
        console.print_out(tables_show.table(list(rows), names))


def _one_by_one(lines: Iterator[bytes], *, json: bool) -> None:
    from stages import tables_show

    if json:
        for line in lines:
            sys.stdout.buffer.write(line)
        return
    for card in tables_show.cards(lines):
        console.print_out(card)
        console.print_out()


@look.command()
def review(
    plan: PlanPath,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many rows to draw.")] = 100,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to: .csv or .jsonl; both, in the run's folder.")
    ] = None,
    read: Annotated[Path | None, typer.Option("--read", metavar="FILE", help="A sample that was filled in.")] = None,
    good_from: Annotated[
        float | None, typer.Option("--good-from", metavar="SCORE", help="The score from which a row is good.")
    ] = None,
    version: Annotated[str, typer.Option("--version", help="Another filter version than the current one.")] = "",
    overrides: Set = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Draw rows for a person to mark (kept, dropped, near the thresholds); --read counts the marks and makes gold."""
    from stages import agreement_tables, review

    loaded, run_ = open_plan(plan, overrides)
    stage = loaded.stage("filter")
    if read is not None:
        found = review.read_back(stage, run_, read, good_from)
        if json:
            strata = [a._asdict() | {"keep": a.keep._asdict()} for a in found.strata]
            put(found._asdict() | {"strata": strata, "gold": str(found.gold)})
            return
        console.print_out(agreement_tables.reviewed(found))
        console.say(f"gold: {found.gold}; next: pipeline calibrate {plan} --gold {found.gold}")
        return
    made = run_.pick("filter", version) if version else run_.current("filter")
    if made is None:
        raise UsageError("filter has not been run", hint=f"pipeline filter {plan}")
    files = review.write(review.draw(stage, made, n, loaded.seed), run_, made, out)
    if json:
        put([str(file) for file in files])
        return
    for file in files:
        console.print_out(str(file))
    console.say(f"fill in `keep` (yes or no) or `score`, then: pipeline review {plan} --read FILE")


@look.command()
def kinds(
    family: Annotated[str, typer.Argument(help="source, engine, task, filter, selector, objective or schedule")] = "",
    json: Json = False,
) -> None:
    """Every component with its settings and help."""
    from stages.kinds import describe

    found = describe(family)
    if json:
        put(found)
        return
    for component in found:
        console.print_out(f"{component['family']} {component['kind']}: {component['help']}")
        for s in component["settings"]:
            extra = f"  {s['help']}" if s["help"] else ""
            console.print_out(f"    {s['name']}: {s['type']} = {s['default']}{extra}")


@look.command()
def preset(name: Annotated[str, typer.Argument(help="instruct, korean, story or code")] = "") -> None:
    """A preset's rules as YAML, to copy into a plan; without a name, which there are."""
    from filters import presets

    if not name:
        console.print_out("\n".join(presets.names()))
        return
    try:
        console.print_out(presets.text(name).rstrip())
    except ValueError as error:
        raise UsageError(str(error)) from error


@look.command()
def schema() -> None:
    """The JSON Schema of a plan, for editors."""
    from stages.plan import Plan

    put(Plan.model_json_schema(mode="validation"))


@look.command("doctor")
def doctor_(json: Json = False) -> None:
    """What this machine can run, and what to do about what is missing."""
    findings = doctor.examine()
    if json:
        put([f._asdict() for f in findings])
        return
    table = console.table("", "", "found", "what to do")
    for f in findings:
        table.add_row("ok" if f.ok else "[yellow]look[/]", f.subject, f.found, f.advice)
    console.print_out(table)
