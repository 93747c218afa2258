"""batch: a stage's questions as a file for a provider's batch API or `vllm run-batch`, and the answers from one.

The stage itself is run, over what is remembered, with engines that only take questions down. What is written needs no
record of its own: reading the answers asks the stage again and compares. A task of several rounds takes several
files, until nothing is left to ask.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pipeline import console
from pipeline.engines import Answered, Engine, Request
from pipeline.engines.base import Source
from pipeline.engines.batch import Line, parse, request_line
from pipeline.engines.openai import OpenAI
from pipeline.engines.vllm import Vllm
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.job import Job
from pipeline.memo import Place
from pipeline.models import ensure
from pipeline.run import Run
from pipeline.store import Manifest, VersionWriter, write_atomic
from stages import flow
from stages.plan import Plan

AT_ONCE = 1000  # answers remembered in one write


class Wanted(NamedTuple):
    """A question that has no answer yet, and who is to give it."""

    engine: Engine
    request: Request

    def place(self) -> Place:
        """Where the memo keeps the answer."""
        return self.request.key(self.engine.words()), self.request.sampling.max_tokens


class Answers(NamedTuple):
    """What a file of answers held, line by line, and how many questions are left."""

    read: int
    known: int
    repeated: int
    failed: int
    unknown: int
    unreadable: int
    left: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


class _Enough(BaseException):
    """Ends a stage once its questions are known; nothing between here and there may take it for an error."""


class _Collecting:
    """A session that takes questions down and answers none."""

    def __init__(self, job: Job, engine: Engine, wanted: dict[str, Wanted]) -> None:
        self._job, self._engine, self._wanted = job, engine, wanted

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """All that can be asked before an answer is there."""
        source = Source(requests)
        words = self._engine.words()
        seen = (-1, -1.0)
        while True:
            if (request := source.next()) is not None:
                custom_id = _custom_id((request.key(words), request.sampling.max_tokens))
                self._wanted[custom_id] = Wanted(self._engine, request)
                continue
            now = len(self._wanted), self._job.usage["remembered"]
            if source.exhausted or now == seen:
                raise _Enough
            seen = now
            yield []  # what was remembered may lead to further questions

    def close(self) -> None:
        """Nothing to free."""


def write(plan: Plan, run: Run, name: str, file: Path, options: flow.Options) -> int:
    """Write what the stage asks next; returns how many lines. Raises UsageError, PipelineError."""
    with _asked(plan, run, name, options) as (_, wanted):
        lines, refused = [], Counter[str]()
        for custom_id, (engine, request) in wanted.items():
            server = _server(engine, name)
            if problem := server.refusal(request):
                refused[problem] += 1
            else:
                lines.append(request_line(custom_id, server.body(request)))
    for problem, count in refused.items():
        console.warn(f"{_count(count, 'request')} cannot be asked in a batch: {problem}")
    models = {engine.model for engine, _ in wanted.values()}
    if len(models) > 1:
        console.warn(f"{file} names several models, and most providers take one a file: {', '.join(sorted(models))}")
    try:
        write_atomic(file, b"".join(lines))
    except OSError as error:
        raise PipelineError(f"cannot write {file}: {error.strerror}") from error
    return len(lines)


def read(plan: Plan, run: Run, name: str, file: Path, options: flow.Options) -> Answers:
    """Remember the answers of a file. Raises UsageError, DataError where none of them is one the stage wants."""
    counts: Counter[str] = Counter()
    with _asked(plan, run, name, options) as (job, wanted):
        open_ = dict(wanted)
        fresh: dict[str, dict[Place, Completion]] = {}
        for line in _lines(file, counts):
            pass
    return Answers(**counts)
