"""report: a run as one HTML page that needs nothing else: no server, no further file, no network.

One module and one template a section; a new one is a line in `SECTIONS`. Charts are SVG written by the templates: they
print, follow the reader's colours, and need no script. The map alone is drawn by the page's script.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pipeline import __version__
from pipeline.errors import PipelineError, UsageError
from pipeline.run import Run
from pipeline.store import write_atomic
from stages import flow
from stages.plan import Plan
from stages.report import (
    ablation,
    cost,
    drops,
    evaluation,
    funnel,
    judges,
    landscape,
    lineage,
    overview,
    rails,
    reproduce,
    samples,
    selection,
    thresholds,
    training,
)
from stages.report.base import Section, Source, clock
from stages.report.page import render

FILE = "report.html"
SECTIONS: tuple[Callable[[Source], Section], ...] = (
    overview.section, funnel.section, evaluation.section, ablation.section, samples.section, training.section,
    drops.section, thresholds.section, judges.section, landscape.section, selection.section, cost.section,
    rails.section, lineage.section, reproduce.section,
)  # fmt: skip


def write(plan: Plan, run: Run, file: Path, overrides: tuple[str, ...] = (), to: Path | None = None) -> Path:
    """Write the report of a run's current versions and return where it is. Raises UsageError, PipelineError.

    `file`: the plan's; `to`: where the page goes instead of the run's folder.
    """
    target = to or run.path / FILE
    if target.is_dir():
        raise UsageError(f"--to {target} is a folder", hint=f"name a file: --to {target / FILE}")
    steps = {step.stage: step for step in flow.status(plan, run)}
    source = Source(plan, run, file.resolve(), overrides, steps)
    if not source.versions():
        raise UsageError(f"{run.path} has no version to report on", hint=f"pipeline run {file}")
    made = datetime.now(UTC).isoformat(timespec="minutes")
    head = {"title": plan.name, "made": clock(made), "release": __version__}
    text = render(head, [make(source) for make in SECTIONS])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, text.encode())
    except OSError as error:
        raise PipelineError(f"cannot write {target}: {error.strerror}") from error
    return target
