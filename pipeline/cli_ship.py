"""Commands over a trained student: what it takes to serve it."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import console
from pipeline.cli_look import Json, PlanPath, Quiet, Set, open_plan, put
from pipeline.errors import UsageError

ship = typer.Typer()


@ship.command()
def export(
    plan: PlanPath,
    forms: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMATS",
            help="safetensors,onnx,onnx_int8,gguf (these four if left out), gguf_q8_0, adapter; or all.",
        ),
    ] = "",
    to: Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Where to; else the run's folder.")] = None,
    input: Annotated[str, typer.Option("--input", help="Another train version (0002) than the current one.")] = "",
    agree: Annotated[
        float, typer.Option(min=0, max=1, help="The least share of tokens on which a form and the student agree.")
    ] = 0.95,
    overrides: Set = [],  # noqa: B006
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make what is served of the trained student, and check it against the student: ONNX, GGUF, adapters."""
    from stages import export as exports
    from stages import tables_export

    console.set_quiet(quiet)
    _, run_ = open_plan(plan, overrides)
    version = run_.pick("train", input.removeprefix("train/")) if input else run_.current("train")
    if version is None:
        raise UsageError("train has not been run", hint=f"pipeline train {plan}")
    names = [name.strip() for name in forms.split(",") if name.strip()]
    found = exports.export(run_, version, names, to)
    if json:
        put([{"folder": str(e.folder), "made": e.made} | e.report.model_dump() for e in found])
    else:
        if not quiet:
            console.print_out(tables_export.forms(found, agree))
        for e in found:
            console.print_out(str(e.folder))
    exports.judge(found, agree)
