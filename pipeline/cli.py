"""The `pipeline` command. Data goes to stdout, talk to stderr; exit codes 0 ok, 1 failed, 2 wrong use."""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import orjson
import typer

from pipeline import __version__, console, doctor
from pipeline.errors import Interrupted, PipelineError, UsageError
from pipeline.run import Run, runs_home
from pipeline.store import Shard

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Synthetic data for language models: generate, filter, curate, train, evaluate. A PLAN is one YAML file.",
)

PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a YAML file.")]
Set = Annotated[list[str], typer.Option("--set", metavar="PLACE=VALUE", help="Override one setting of the plan.")]
Input = Annotated[str, typer.Option("--input", help="Read this version (0002) or JSONL file instead.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N seeds or rows.")]
Again = Annotated[bool, typer.Option("--again", help="Run even if this version exists; makes a new one.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")]


def _open(path: Path, overrides: list[str]) -> tuple[Any, Run]:
    from stages import plan

    loaded = plan.load(path, tuple(overrides))
    return loaded, Run(runs_home() / loaded.name)


def _put(value: Any) -> None:
    console.print_out(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _work(path: Path, names: Callable[[Any], list[str]], overrides: list[str], options: Any, *, json: bool) -> None:
    from stages import flow, tables

    plan, run = _open(path, overrides)
    versions = flow.run_stages(plan, run, names(plan), options)
    if json:
        _put([v.manifest.model_dump() for v in versions])
    else:
        tables.summary(run, versions)


@app.command()
def run(
    plan: PlanPath,
    overrides: Set = [],  # noqa: B006  (typer copies it)
    first: Annotated[str, typer.Option("--from", metavar="STAGE", help="Begin here, on what is there.")] = "",
    last: Annotated[str, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = "",
    limit: Limit = None,
    again: Again = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the plan's stages; whatever exists already is taken as it is."""
    from stages import flow

    console.set_quiet(quiet)
    names = partial(flow.between, first=first, last=last)
    _work(plan, names, overrides, flow.Options(limit=limit, again=again), json=json)


def _stage_command(name: str, help_text: str) -> None:
    def command(
        plan: PlanPath,
        overrides: Set = [],  # noqa: B006
        input: Input = "",
        limit: Limit = None,
        again: Again = False,
        json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        from stages import flow

        console.set_quiet(quiet)
        options = flow.Options(input=input, limit=limit, again=again)
        _work(plan, lambda p: [name], overrides, options, json=json)

    app.command(name, help=help_text)(command)


_stage_command("generate", "The teacher answers the seeds.")
_stage_command("filter", "Rules, then a judge; what is dropped is kept with its reason.")
_stage_command("curate", "Embed, cluster, keep few but good and diverse records.")
_stage_command("train", "Train the student on what was kept.")
_stage_command("evaluate", "Teacher, untrained and trained student on held-out prompts.")


@app.command()
def check(plan: PlanPath, overrides: Set = [], json: Json = False) -> None:  # noqa: B006
    """Read the plan, say what would run and why. Opens no model, writes nothing."""
    from stages import checks

    loaded, run_ = _open(plan, overrides)
    found = checks.examine(loaded, run_)
    if json:
        _put([row._asdict() for row in found.rows] + [{"note": note} for note in found.notes])
        return
    console.print_out(f"{loaded.name}: {loaded.about}".rstrip(": "))
    table = console.table("stage", "would", "because")
    for row in found.rows:
        table.add_row(row.stage, row.would, row.why)
    console.print_out(table)
    for note in found.notes:
        console.print_out(f"note: {note}")


@app.command()
def status(plan: PlanPath, overrides: Set = [], json: Json = False) -> None:  # noqa: B006
    """The current version of every stage, and whether it is what the plan asks for."""
    from stages import flow, tables

    loaded, run_ = _open(plan, overrides)
    steps = flow.status(loaded, run_)
    if json:
        rows = [
            {"stage": s.stage, "state": s.state, "version": s.version.name if s.version else None, "why": s.why}
            | ({"counts": s.version.manifest.counts} if s.version else {})
            for s in steps
        ]
        _put(rows)
        return
    table = console.table("stage", "version", "state", "kept", "held out", "dropped", "",
                          right=("kept", "held out", "dropped"), title=str(run_.path))  # fmt: skip
    for step in steps:
        counts = step.version.manifest.counts if step.version else {}
        numbers = [f"{counts.get(k, 0):,}" if counts.get(k) else "" for k in ("kept", "heldout", "dropped")]
        table.add_row(step.stage, step.version.name if step.version else "", step.state, *numbers, step.why)
    console.print_out(table)
    for note in tables.warnings([s.version for s in steps if s.version]):
        console.print_out(f"note: {note}")


@app.command()
def show(
    plan: PlanPath,
    stage: Annotated[str, typer.Argument(help="generate, filter, curate, train or evaluate")],
    dropped: Annotated[
        str, typer.Option("--dropped", metavar="[REASON]", help="Dropped rows, of one reason or filter.")
    ] = "",
    heldout: Annotated[bool, typer.Option("--heldout", help="Held-out rows.")] = False,
    n: Annotated[int, typer.Option("-n", min=0, help="How many rows.")] = 5,
    where: Annotated[str, typer.Option("--where", metavar="SQL", help='For example "scores.judge < 3".')] = "",
    version: Annotated[str, typer.Option("--version", help="Another version than the current one.")] = "",
    overrides: Set = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Rows of a stage: kept ones, or dropped ones with their reasons."""
    from stages import show as rows

    loaded, run_ = _open(plan, overrides)
    loaded.stage(stage)
    found = run_.pick(stage, version) if version else run_.current(stage)
    if found is None:
        raise UsageError(f"{stage} has not been run", hint=f"pipeline {stage} {plan}")
    if stage in ("train", "evaluate"):
        _put(rows.lines(found.path / ("metrics.jsonl" if stage == "train" else "samples.jsonl"), n))
        return
    shard: Shard = "dropped" if dropped else "heldout" if heldout else "kept"
    records = rows.rows(found, shard, dropped, where)
    _show_rows(records, n, json=json)


def _show_rows(records: Any, n: int, *, json: bool) -> None:
    from itertools import islice

    from stages import tables

    if json:
        for record in islice(records, n):
            sys.stdout.buffer.write(record.line())
        return
    for record in islice(records, n):
        console.print_out(tables.card(record, 2000))
        console.print_out()


@app.command()
def kinds(
    family: Annotated[str, typer.Argument(help="source, engine, task, filter, selector or objective")] = "",
    json: Json = False,
) -> None:
    """Every component with its settings and help."""
    from stages.kinds import describe

    found = describe(family)
    if json:
        _put(found)
        return
    for component in found:
        console.print_out(f"{component['family']} {component['kind']}: {component['help']}")
        for s in component["settings"]:
            extra = f"  {s['help']}" if s["help"] else ""
            console.print_out(f"    {s['name']}: {s['type']} = {s['default']}{extra}")


@app.command()
def schema() -> None:
    """The JSON Schema of a plan, for editors."""
    from stages.plan import Plan

    _put(Plan.model_json_schema(mode="validation"))


@app.command("doctor")
def doctor_(json: Json = False) -> None:
    """What this machine can run, and what to do about what is missing."""
    findings = doctor.examine()
    if json:
        _put([f._asdict() for f in findings])
        return
    table = console.table("", "", "found", "what to do")
    for f in findings:
        table.add_row("ok" if f.ok else "[yellow]look[/]", f.subject, f.found, f.advice)
    console.print_out(table)


@app.command()
def init(name: Annotated[Path, typer.Argument(help="The folder to make.")]) -> None:
    """Write a commented plan to start from."""
    from stages import start

    for path in start.write(name):
        console.print_out(str(path))
    console.say(f"next: pipeline check {name / 'plan.yaml'}")


def _version(value: bool) -> None:
    if value:
        console.print_out(f"pipeline {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def _arguments(given: list[str]) -> list[str]:
    """`--dropped` may stand without its reason; typer options always take a value."""
    following = [*given[1:], "-"]
    return [
        "--dropped=*" if word == "--dropped" and after.startswith("-") else word
        for word, after in zip(given, following, strict=False)  # nothing follows nothing
    ]


def _stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)  # a second one ends at once
    raise Interrupted(signum)


def main() -> None:
    """Run the command; turn what went wrong into one message and an exit code."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    try:
        app(_arguments(sys.argv[1:]))
    except PipelineError as error:
        console.complain(str(error))
        sys.exit(error.exit_code)
    except Interrupted as stop:
        console.complain("interrupted; what was finished is kept, the same command goes on from there")
        sys.exit(stop.exit_code)
    except ModuleNotFoundError as error:  # an extra that was not installed
        console.complain(f"{error.name} is not installed\nhint: `pipeline doctor` says what each stage needs")
        sys.exit(1)
    except BrokenPipeError:  # the reader of stdout has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        console.complain(f"{error.strerror or error}{where}; what was finished is kept")
        sys.exit(1)
