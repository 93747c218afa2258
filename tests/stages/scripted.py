"""A task's scripts run to their end over a teacher whose answers come from a function, in any order."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.engines import Answered, Request
from pipeline.engines.base import Source
from pipeline.engines.replay import Replay
from pipeline.job import Job, Retry
from pipeline.records import Seed
from pipeline.run import Run
from stages.sampling import VariedSampling
from stages.scripts import Asking, Scripts, Unit
from stages.tasks.base import Task
from tests.helpers import Script, empty_recording, stub_model


class Shuffled:
    """An open engine that has `width` requests under way and finishes any of them next."""

    def __init__(self, script: Script, width: int, seed: int) -> None:
        self.script, self.width, self._chance = script, width, random.Random(seed)
        self.asked: list[Request] = []

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """Every request once, in no order."""
        source, running = Source(requests), list[Request]()
        while True:
            while len(running) < self.width and (request := source.next()) is not None:
                running.append(request)
                self.asked.append(request)
            if not running:
                if source.exhausted:
                    return
                yield []
                continue
            request = running.pop(self._chance.randrange(len(running)))
            yield [Answered(request, self.script(request))]

    def close(self) -> None:
        """Nothing to free."""


def replay(folder: Path, name: str = "teacher") -> Replay:
    """A teacher to hang a session on."""
    return Replay(model=str(stub_model(folder / name)), recording=empty_recording(folder / f"{name}.jsonl"))


def played(
    task: Task,
    seeds: Iterable[Seed],
    folder: Path,
    script: Script,
    *,
    retries: int = 0,
    samples: int = 1,
    retry: frozenset[Retry] = frozenset(),
    width: int = 8,
    shuffle: int = 0,
    **sampling: Any,
) -> list[Unit]:
    """Every seed's script, in order; the answers come from a new memo and `script`."""
    teacher = replay(folder)
    seeds = list(seeds)
    with_samples = ((seed, n) for seed in seeds for n in range(samples))
    asking = Asking(VariedSampling(**sampling), retries, "drop", {}, retry)
    run = Run(folder / "played")
    run.create()
    run.memo.unlink(missing_ok=True)
    job = Job(run, 7, teacher)
    for engine in task.asks(teacher):
        job.use(engine, Shuffled(script, width, shuffle))
    try:
        return list(Scripts(job, task, asking, with_samples, task.remember(seeds)).units())
    finally:
        job.close()
