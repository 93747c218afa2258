"""`pipeline train PLAN --check`: what training would feed the student, with nothing trained and nothing written."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import console
from pipeline.models import ensure
from pipeline.run import Run
from stages import flow, training
from stages.plan import Plan
from stages.preflight import Preflight
from stages.train import Train


class Checked(NamedTuple):
    """What was found, and how long training will take; None where nobody knows."""

    preflight: Preflight
    seconds: float | None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return self.preflight.plain() | {"seconds": self.seconds}


def check(plan: Plan, run: Run, options: flow.Options) -> Checked:
    """Look at the rows that `pipeline train` would read. Raises UsageError, ModelError; faults are in the result."""
    stage = plan.stage("train")
    assert isinstance(stage, Train)
    _, inputs = flow.inputs(plan, run, "train", options)
    for model, revision in stage.models(plan.teacher):
        ensure(model, revision)
    with tempfile.TemporaryDirectory(prefix="preflight-") as work, console.silenced(None):
        rows = Path(work) / "rows.jsonl"
        given = stage.given(run, plan.teacher, inputs, None)
        stage.write_rows(given, rows)
        found = training.examine(stage.lesson(plan.teacher, given, rows, Path(work), plan.seed))
        return Checked(found, stage.seconds(run, plan.teacher, found))
