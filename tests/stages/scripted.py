"""A task's scripts run to their end over a teacher whose answers come from a function."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.engines.replay import Replay
from pipeline.job import Job, Retry
from pipeline.records import Seed
from pipeline.run import Run
from stages.sampling import VariedSampling
from stages.scripts import Asking, Scripts, Unit
from stages.tasks.base import Task
from tests.helpers import Script, ScriptedSession, empty_recording, stub_model


def played(
    task: Task,
    seeds: Iterable[Seed],
    folder: Path,
    script: Script,
    *,
    retries: int = 0,
    samples: int = 1,
    retry: frozenset[Retry] = frozenset(),
    **sampling: Any,
) -> list[Unit]:
    """Every seed's script, in order."""
    stub_model(folder / "teacher")
    teacher = Replay(model=str(folder / "teacher"), recording=empty_recording(folder / "said.jsonl"))
    seeds = list(seeds)
    with_samples = ((seed, n) for seed in seeds for n in range(samples))
    asking = Asking(VariedSampling(**sampling), retries, "drop", {}, retry)
    run = Run(folder / "played")
    run.create()
    run.memo.unlink(missing_ok=True)
    job = Job(run, 7, teacher)
    job.use(teacher, ScriptedSession(teacher.recording, script))
    try:
        return list(Scripts(job, task, asking, with_samples, task.remember(seeds)).units())
    finally:
        job.close()
