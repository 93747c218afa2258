"""The command that tries the student as its teacher's draft."""

from typing import Annotated

import typer

from pipeline import console
from pipeline.cli_look import Json, PlanPath, Quiet, Set, open_plan, put

speculation = typer.Typer()


@speculation.command()
def speculate(
    plan: PlanPath,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens drafted for each step of the teacher.")] = 4,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Held-out prompts, at most.")] = 32,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=2, help="Longest answer, in tokens.")] = 128,
    overrides: Set = [],  # noqa: B006
    input: Annotated[str, typer.Option("--input", help="Draft with this train version (0002) instead.")] = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The student drafts for its teacher in vLLM: how much faster is it?

    Exits with 1 where an answer changed that rounding does not explain.
    """
    from stages import speculate as speculating
    from stages import tables_speculate

    console.set_quiet(quiet)
    loaded, run_ = open_plan(plan, overrides)
    options = speculating.Options(tokens=tokens, rows=rows, max_tokens=max_tokens, input=input)
    found = speculating.speculate(loaded, run_, options)
    if json:
        put(found.plain())
    else:
        console.print_out(tables_speculate.report(found))
    found.refuse()
