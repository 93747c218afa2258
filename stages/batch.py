"""batch: a stage's questions as a file for a provider's batch API or `vllm run-batch`, and the answers from one.

The stage itself is run, over what is remembered, with engines that only take questions down. What is written needs no
record of its own: reading the answers asks the stage again and compares. A task of several rounds takes several
files, until nothing is left to ask.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import console
from pipeline.engines import Answered, Completion, Engine, Request
from pipeline.engines.base import Source
from pipeline.engines.batch import Line, parse, request_line
from pipeline.engines.openai import OpenAI
from pipeline.engines.vllm import Vllm
from pipeline.errors import PipelineError, UsageError
from pipeline.job import Job
from pipeline.memo import Place
from pipeline.models import ensure
from pipeline.run import Run
from pipeline.store import Manifest, VersionWriter, write_atomic
from stages import flow
from stages.plan import Plan

A_FILE = 50_000  # requests that a provider takes in one file
AT_ONCE = 1000  # answers remembered in one write
OURS = re.compile(r"^[0-9a-f]{32}-[0-9]{1,9}$")
COUNTED = ("read", "known", "repeated", "failed", "unknown", "unreadable")

A_FILE = 50_000  # requests that a provider takes in one file


class Wanted(NamedTuple):
    """A question that has no answer yet, and who is to give it."""

    engine: Engine
    request: Request


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


def write(plan: Plan, run: Run, name: str, file: Path, options: flow.Options) -> dict[str, Any]:
    """Write what the stage asks next of one model, and return how many `requests`; no file where there is none.

    `refused` cannot be asked by batch; `later` are those to other models, for a file takes one.
    """
    if file.exists():
        raise UsageError(f"{file} is there already", hint="name another file, or move it away")
    with _asked(plan, run, name, options) as (_, wanted):
        by_model: dict[str, list[bytes]] = {}
        refused: Counter[str] = Counter()
        for custom_id, (engine, request) in wanted.items():
            server = _server(engine, name)
            if problem := server.refusal(request):
                refused[problem] += 1
            else:
                by_model.setdefault(engine.model, []).append(request_line(custom_id, server.body(request)))
    for problem, count in refused.items():
        console.warn(f"not in the file: {count:,} of the requests: {problem}")
    lines, *others = by_model.values() or [[]]
    later = sum(map(len, others))
    if lines:
        try:
            write_atomic(file, b"".join(lines))
        except OSError as error:
            raise UsageError(f"cannot write {file}: {error.strerror}") from error
        console.say(f"{len(lines):,} requests written to {file}; next: pipeline batch PLAN {name} --read ANSWERS")
        if later:
            console.say(f"{later:,} requests to other models come with the next file")
    elif not wanted:
        console.say(f"0 requests left: pipeline {name} PLAN")
    return {"requests": len(lines), "refused": refused.total(), "later": later}


def read(plan: Plan, run: Run, name: str, file: Path, options: flow.Options) -> dict[str, Any]:
    """Remember the answers of a file, and return how many lines were what, and how many requests are left.

    Raises PipelineError where none of its lines is an answer that the stage wants or has.
    """
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    with _asked(plan, run, name, options) as (job, wanted), file.open("rb") as lines:
        reading = _Reading(job, wanted)
        for number, line in enumerate(lines, 1):
            if line.strip():
                reading.take(line.removeprefix(b"\xef\xbb\xbf"), f"{file}:{number}")
        reading.remember()
    for what, count in reading.counts.items():
        if example := reading.examples.get(what):
            console.warn(f"{what}: {count:,} of the lines, the first {example}")
    if not reading.counts["read"] + reading.counts["known"]:
        raise PipelineError(
            f"{file} holds no answer that {name} asks for",
            hint="give --read the file of answers, and the plan and the options that --write was given",
        )
    with _asked(plan, run, name, options) as (_, wanted):
        left = len(wanted)
    counts = {what: reading.counts[what] for what in COUNTED}
    console.say(f"{file}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items() if count))
    next_ = f"batch PLAN {name} --write FILE" if left else f"{name} PLAN"
    console.say(f"{left:,} requests left: pipeline {next_}")
    return counts | reading.usage | {"left": left}


class _Reading:
    """Takes lines, counts what each was, and remembers the answers among them."""

    def __init__(self, job: Job, wanted: dict[str, Wanted]) -> None:
        self._job, self._wanted = job, wanted
        self._seen: set[str] = set()
        self._fresh: dict[Place, tuple[Engine, Completion]] = {}
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}

    def take(self, content: bytes, where: str) -> None:
        """One line of the file."""
        try:
            line = parse(content)
        except ValueError as error:
            self._note("unreadable", f"{where} ({error})")
            return
        if line.custom_id in self._seen:
            self._note("repeated", where)
        elif line.custom_id not in self._wanted:
            known = self._known(line.custom_id)
            self._note("known" if known else "unknown", "" if known else f"{where} ({line.custom_id!r})")
        else:
            self._answer(line, where)

    def remember(self) -> None:
        """Make the answers durable."""
        for engine in {id(engine): engine for engine, _ in self._fresh.values()}.values():
            mine = {place: completion for place, (by, completion) in self._fresh.items() if by is engine}
            self._job.memo.put(engine.words(), mine)
        self._fresh.clear()

    def _answer(self, line: Line, where: str) -> None:
        engine, request = self._wanted[line.custom_id]
        completion = line.completion(request.top_logprobs)
        if completion.error:
            self._note("failed", f"{where} ({completion.error})")
            return
        self._note("read")
        self._seen.add(line.custom_id)
        used = completion.prompt_tokens, completion.completion_tokens
        for name, number in zip(self.usage, (*used, engine.price.of(*used)), strict=True):
            self.usage[name] += number
        self._fresh[_place(line.custom_id)] = engine, completion
        if len(self._fresh) >= AT_ONCE:
            self.remember()

    def _known(self, custom_id: str) -> bool:
        return bool(OURS.match(custom_id) and self._job.memo.get([_place(custom_id)]))

    def _note(self, what: str, example: str = "") -> None:
        self.counts[what] += 1
        if example:
            self.examples.setdefault(what, example)


@contextmanager
def _asked(plan: Plan, run: Run, name: str, options: flow.Options) -> Iterator[tuple[Job, dict[str, Wanted]]]:
    """What the stage asks next, by custom id, and the job over its memo. Holds the run for writing."""
    stage = plan.stage(name)
    engines = stage.asks(plan.teacher)
    if not engines:
        raise UsageError(f"{name} asks no model")
    for engine in engines:
        _server(engine, name)
    wanted: dict[str, Wanted] = {}
    with run.writing(), tempfile.TemporaryDirectory() as folder:
        job = Job(run, plan.seed, plan.teacher, options.limit)
        count = getattr(plan.stage(name), "count", None)
        job.window = min(A_FILE, 2 * count.accepted) if count else A_FILE
        try:
            sources, inputs = flow.inputs(plan, run, name, options)
            for model, revision in stage.models(plan.teacher):
                ensure(model, revision)
            for engine in engines:
                job.use(engine, _Collecting(job, engine, wanted))
            stage.prepare(job, inputs)
            manifest = Manifest(stage=name, version="", fingerprint="", settings={}, inputs=sources)
            nowhere = VersionWriter(Path(folder), manifest)
            nowhere.begin()
            with suppress(_Enough):
                stage.run(job, inputs, nowhere)
            yield job, wanted
        finally:
            job.close()


def _server(engine: Engine, name: str) -> OpenAI:
    """How an engine's questions are written down."""
    if isinstance(engine, OpenAI):
        return engine
    if isinstance(engine, Vllm):
        return OpenAI(model=engine.model, server="vllm")
    kind = getattr(engine, "kind", "")
    raise UsageError(f"{name} asks an engine of kind {kind}; batch files are for openai and vllm")


def _custom_id(place: Place) -> str:
    return f"{place[0]}-{place[1]}"


def _place(custom_id: str) -> Place:
    key, _, limit = custom_id.partition("-")
    return key, int(limit)
