"""check: what would run and why, and what stands in the way. Opens no model and writes nothing."""

from typing import NamedTuple

from pipeline.errors import ModelError
from pipeline.models import DEMO, cached, find, looks_local
from pipeline.run import Run
from stages import flow
from stages.plan import Plan


class Row(NamedTuple):
    """One stage: `up to date`, `run` or `switch`, and why."""

    stage: str
    would: str
    why: str


class Found(NamedTuple):
    """Rows, and notes worth knowing before a run."""

    rows: list[Row]
    notes: list[str]


def examine(plan: Plan, run: Run) -> Found:
    """Raises UsageError for what would fail for certain."""
    if plan.generate is not None:
        plan.generate.asks(plan.teacher)
        plan.generate.task.require(plan.generate.source.fields())
    notes = _model_notes(plan)
    prints = flow.expected(plan)
    rows = []
    for name, wanted in prints.items():
        ready, current = run.with_fingerprint(name, wanted), run.current(name)
        if ready is not None:
            same = current is not None and current.name == ready.name
            rows.append(Row(name, "up to date" if same else "switch", f"to {ready.name}" if not same else ready.name))
        elif current is None:
            rows.append(Row(name, "run", "not run yet"))
        else:
            changed = flow.changes(current.manifest.settings, plan.settings(name))
            rows.append(Row(name, "run", "; ".join(changed) or "what it reads has changed"))
    return Found(rows, notes)


def _model_notes(plan: Plan) -> list[str]:
    notes = []
    named = {m for stage in plan.stages().values() for m in stage.models(plan.teacher)}
    for name, revision in sorted(named):
        try:
            find(name, revision)
        except ModelError as error:
            notes.append(str(error).replace("\n", "; "))
            continue
        if not name.startswith(DEMO) and not looks_local(name) and cached(name, revision) is None:
            notes.append(f"{name} is not on this machine yet; the run fetches it from the Hub")
    return notes
