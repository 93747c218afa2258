"""How many records are enough: the choice at several sizes, beside random choices, from one embedding."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import console
from pipeline.errors import UsageError
from pipeline.job import Job
from pipeline.models import ensure
from pipeline.run import Run
from stages import choice, flow
from stages.curate import Curate
from stages.diversity import Comparison
from stages.landscape import Landscape
from stages.plan import Plan


class Size(NamedTuple):
    """One size: how many were wanted and kept, and the figures of the choice beside random ones."""

    keep: int
    kept: int
    comparison: Comparison

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"keep": self.keep, "kept": self.kept} | self.comparison.plain()


def sizes(text: str) -> list[int]:
    """`250,500,1000` as numbers, ascending. Raises UsageError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() and int(part) for part in parts):
        raise UsageError(f"--sweep {text}: it takes sizes with commas between, such as 250,500,1000")
    return sorted({int(part) for part in parts})


def sweep(plan: Plan, run: Run, wanted: list[int], options: flow.Options) -> list[Size]:
    """Choose at every size; nothing is written but vectors that were not there yet. Raises UsageError."""
    stage = plan.stage("curate")
    assert isinstance(stage, Curate)
    _, given = flow.inputs(plan, run, "curate", options)
    for model, revision in stage.models(plan.teacher):
        ensure(model, revision)
    found = []
    with run.writing(), tempfile.TemporaryDirectory(dir=run.path, prefix="sweep-") as work:
        job = Job(run, plan.seed, plan.teacher)
        compared = stage.compared(job, given, Path(work), Path(work))
        land = Landscape(compared, plan.seed)
        free = len(compared.free)
        with console.Bar("sweep", len(wanted)) as bar:
            for keep in wanted:
                _, budgets = stage.budgets(compared, min(keep, free))
                chosen = choice.choose(compared, stage.selectors(), budgets, plan.seed)
                found.append(Size(keep, len(chosen.places), land.compare(chosen)))
                bar.advance()
    return found
