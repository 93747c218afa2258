"""The `pipeline` command. Data goes to stdout, talk to stderr; exit codes 0 ok, 1 failed, 2 wrong use."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from pipeline import __version__, console
from pipeline.cli_ablate import ablation
from pipeline.cli_ask import ask
from pipeline.cli_keep import keeping
from pipeline.cli_look import Input, Json, Limit, PlanPath, Quiet, Set, look, open_plan, put
from pipeline.cli_pager import paged
from pipeline.cli_publish import publishing
from pipeline.cli_report import reporting
from pipeline.cli_ship import ship
from pipeline.cli_speculate import speculation
from pipeline.cli_stages import work
from pipeline.errors import Interrupted, PipelineError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Synthetic data for language models: generate, filter, curate, train, evaluate. A PLAN is one YAML file.",
)
aside = typer.Typer()


@aside.command()
def batch(
    plan: PlanPath,
    stage: Annotated[str, typer.Argument(help="generate or filter")],
    write: Annotated[Path | None, typer.Option("--write", help="The file to make: what the stage asks next.")] = None,
    read: Annotated[Path | None, typer.Option("--read", help="A file of answers, to be remembered.")] = None,
    overrides: Set = [],  # noqa: B006
    input: Input = "",
    limit: Limit = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write what a stage asks next as a batch file, or read the answers.

    For a provider's batch API or `vllm run-batch`; a task of several rounds takes several files.
    """
    from stages import batch as files
    from stages import flow

    console.set_quiet(quiet)
    if (write is None) == (read is None):
        raise UsageError("batch takes one of --write FILE and --read FILE")
    loaded, run_ = open_plan(plan, overrides)
    options = flow.Options(input=input, limit=limit)
    if write is not None:
        found = files.write(loaded, run_, stage, write, options)
    else:
        assert read is not None
        found = files.read(loaded, run_, stage, read, options)
    if json:
        put(found)


@aside.command()
def calibrate(
    plan: PlanPath,
    gold: Annotated[Path, typer.Option("--gold", metavar="FILE", help="What people said: JSONL or CSV.")],
    rule: Annotated[str, typer.Option("--rule", help="One rule, whatever it measures; or every judge.")] = "",
    good_from: Annotated[
        float | None, typer.Option("--good-from", metavar="SCORE", help="The human score from which a row is good.")
    ] = None,
    precision: Annotated[float, typer.Option(min=0, max=1, help="Find the min_score that reaches it.")] = 0.9,
    repeats: Annotated[int, typer.Option(min=0, help="How often every question is asked once more.")] = 1,
    overrides: Set = [],  # noqa: B006
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """How far the plan's judges agree with people, next to what answer length alone would say.

    The run's folder keeps it: `report` and `card` show it.
    """
    from pipeline.visible import visible
    from stages import agreement_tables, calibrate, calibrated
    from stages import gold as golds

    console.set_quiet(quiet)
    loaded, run_ = open_plan(plan, overrides)
    options = calibrate.Options(rule, good_from, precision, repeats)
    marks = golds.read(gold, run_)
    as_it_is = calibrated.gold_file(gold)
    found = calibrate.calibrate(loaded, run_, marks, options)
    files = calibrated.keep(loaded, run_, as_it_is, options, found)
    if json:
        put([c._asdict() | {"figures": [f._asdict() for f in c.figures]} for c in found])
        return
    for calibration in found:
        console.print_out(agreement_tables.calibration(calibration))
        for note in calibration.notes:
            console.print_out(f"note: {visible(note)}")
    console.say(f"kept in {', '.join(map(str, files))}; next: pipeline report {plan}")


@app.command()
def init(name: Annotated[Path, typer.Argument(help="The folder to make.")]) -> None:
    """Write a commented plan to start from."""
    from stages import start

    for path in start.write(name):
        console.print_out(str(path))
    console.say(f"next: pipeline check {name / 'plan.yaml'}")


@aside.command()
def memo(
    plan: PlanPath,
    repair: Annotated[bool, typer.Option("--repair", help="Save what can be read of a damaged memo.")] = False,
    overrides: Set = [],  # noqa: B006
    json: Json = False,
) -> None:
    """What the run's models have answered so far; mend it where it is damaged."""
    from pipeline import memo as memos

    _, run_ = open_plan(plan, overrides)
    if not run_.memo.is_file():
        raise UsageError(f"{run_.memo} is not there: nothing has been asked yet")
    if repair:
        with run_.writing():
            done = memos.repair(run_.memo)
        console.say(f"{done.saved:,} completions saved; the damaged file is {done.aside}")
    with memos.Memo(run_.memo) as opened:
        found = opened.engines()
    if json:
        names = ("engine", "completions", "prompt_tokens", "completion_tokens")
        put([dict(zip(names, row, strict=True)) for row in found])
        return
    numbers = ("completions", "prompt tokens", "completion tokens")
    table = console.table("engine", *numbers, title=console.cell(str(run_.memo)), right=numbers)
    for said_by, *counts in found:
        table.add_row(console.cell(said_by), *(f"{count:,}" for count in counts))
    console.print_out(table)


GROUPS = (work, ablation, ship, speculation, look, ask, reporting, publishing, keeping, aside)  # the order of the help
for group in GROUPS:
    app.add_typer(group)


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
    """`--dropped` may stand without its reason, `--estimate` without its number; typer options always take a value."""
    following = [*given[1:], "-"]
    alone: dict[str, Callable[[str], str]] = {
        "--dropped": lambda after: "--dropped=*" if after.startswith("-") else "--dropped",
        "--estimate": lambda after: "--estimate" if after.isdigit() else "--estimate=32",
    }
    pairs = zip(given, following, strict=False)  # nothing follows nothing
    return [alone[word](after) if word in alone else word for word, after in pairs]


def _stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)  # a second one ends at once
    raise Interrupted(signum)


def main() -> None:
    """Run the command; turn what went wrong into one message and an exit code."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    try:
        with paged(ends=False):
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
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        console.complain(f"{error.strerror or error}{where}; what was finished is kept")
        sys.exit(1)
