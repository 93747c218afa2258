"""generate: the teacher writes examples. Seeds in, records out, in the order asked."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from filters import AnyFilter
from pipeline import console
from pipeline.engines import Engine, Request
from pipeline.errors import ModelError, UsageError
from pipeline.job import Job, Retry
from pipeline.models import find
from pipeline.records import Check, MadeBy, Record, Seed, digest
from pipeline.store import Tally, Version, VersionWriter
from stages.base import Inputs, Stage
from stages.filter import apply, judges_of
from stages.refill import Count, Meter, until
from stages.sampling import VariedSampling
from stages.scripts import Asking, Scripts, Unit, chance_for, retried
from stages.sidecar import Sidecar
from stages.sources import AnySource
from stages.tasks import AnyTask
from stages.tasks.base import By, Example
from stages.watch import Watch, Watching


class Generate(Stage):
    """Ask the teacher about every seed."""

    stage: ClassVar[str] = "generate"
    takes_rows: ClassVar[bool] = False

    source: AnySource
    task: AnyTask
    sampling: VariedSampling = VariedSampling()
    samples: Annotated[int, Field(ge=1, description="answers per seed")] = 1
    count: Annotated[Count | None, Field(description="ask until so many rows are accepted")] = None
    retries: Annotated[int, Field(ge=0, description="how often an unreadable answer is asked for again")] = 2
    heldout: Annotated[float, Field(ge=0, lt=1, description="share of the seeds kept out of training")] = 0.1
    truncated: Annotated[
        Literal["drop", "keep"], Field(description="answers cut by max_tokens: a student trained on them never ends")
    ] = "drop"
    watch: Watch = Watch()
    chat_template_kwargs: Annotated[dict[str, Any], Field(description="for example enable_thinking: false")] = {}

    def accepting(self, rules: list[AnyFilter]) -> "Generate":
        """This stage with `count.rules` filled in where the plan leaves them out."""
        if self.count is None or self.count.rules is not None:
            return self
        return self.model_copy(update={"count": self.count.model_copy(update={"rules": rules})})

    @property
    def accepts(self) -> list[AnyFilter]:
        """The rules that accept rows; none without `count`."""
        return (self.count.rules or []) if self.count else []

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The teacher, whom the task asks besides, and the judges among `count.rules`."""
        return [*self.task.asks(teacher), *judges_of(self.accepts, teacher)]

    def retries_rows(self, made: Version, retry: frozenset[Retry]) -> bool:
        """Whether answers were dropped for one of these."""
        return any(retried(reason) in retry for reason in made.manifest.ledger[0].dropped)

    def prepare(self, job: Job, inputs: Inputs) -> None:
        """Every seed is read and its first question rendered before any is asked: a bad line costs no tokens."""
        self.task.require(self.source.fields())
        if self.samples > 1 and not self.asks(job.teacher):
            raise UsageError(f"task {self.task.kind} asks nobody: generate.samples would only repeat its rows")
        wanted = Request(id="", messages=(), top_logprobs=self.sampling.top_logprobs)
        for engine in self.task.asks(job.teacher):
            if problem := engine.refusal(wanted):
                raise UsageError(f"{engine.model}: {problem}")
        for rule in self.accepts:
            rule.prepare()
        memory = self.task.remember(self._seeds(job))
        inputs.total = 0
        for seed in self._seeds(job):
            next(self.task.script(seed, chance_for(job.seed, seed, 0), memory), None)
            inputs.total += self.samples
        if inputs.total == 0:
            raise UsageError("generate.source gives no seeds")

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Write the records; unreadable, failed and truncated answers are dropped with a reason."""
        tally = Tally(step="generate")
        out.manifest.ledger.append(tally)
        asking = bool(self.asks(job.teacher))
        watch = self.watch if asking else self.watch.model_copy(update={"max_failed": None})  # a log is what it is
        meter, watching = Meter(self.count.limits() if self.count else None), Watching(watch)
        maker, sidecar = Maker(job.teacher, self), Sidecar(out.path, job.teacher.model if job.teacher else "")
        wanted = self.count.accepted if self.count else None
        with console.Bar("generate", wanted or inputs.total, watching.line) as bar:
            again = self.count is not None and asking  # else the same rows would come again
            scripts = self.scripts(job, self.starts(job, None if again else 1))
            units = self._told(meter.count(scripts), bar if wanted is None else None)
            records = watching.over(self._records(units, maker, sidecar, tally))
            for rule in self.accepts:
                out.manifest.ledger.append(step := Tally(step=rule.label))
                records = apply(rule, records, job, step)
            for record in until(records, wanted):
                out.write(record)
                if wanted is not None and not record.dropped and record.split == "train":
                    bar.advance()
        sidecar.close()
        out.manifest.figures |= {"rates": watching.rates()}
        self._closing(tally, out, meter, maker.problem)

    def _closing(self, tally: Tally, out: VersionWriter, meter: Meter, problem: str) -> None:
        if tally.came and tally.dropped.get("no_answer") == tally.came:
            raise ModelError(f"the teacher answered none of {tally.came} requests; the last problem: {problem}")
        if self.count and out.counts["kept"] < self.count.accepted:
            why = f"the budget of {meter.reached} is spent" if meter.reached else "the source gives no more"
            note = f"{out.counts['kept']:,} of {self.count.accepted:,} rows accepted: {why}"
            out.manifest.notes.append(note)
            console.warn(note)

    def _seeds(self, job: Job) -> Iterator[Seed]:
        return itertools.islice(self.source.seeds(job.seed, self.heldout), job.limit)

    def starts(self, job: Job, turns: int | None = None) -> Iterator[tuple[Seed, int]]:
        """Seeds with the number of the sample; for `count.accepted` (turns None) the training seeds again and again."""
        for turn in itertools.count() if turns is None else range(turns):
            given = 0
            for seed in self._seeds(job):
                if turn == 0 or seed.split == "train":
                    given += 1
                    yield from ((seed, turn * self.samples + n) for n in range(self.samples))
            if not given:  # every seed is held out
                return

    def scripts(self, job: Job, starts: Iterator[tuple[Seed, int]]) -> Iterator[Unit]:
        """The task's scripts over `starts`, run to their ends."""
        asking = Asking(self.sampling, self.retries, self.truncated, self.chat_template_kwargs, job.retry)
        return Scripts(job, self.task, asking, starts, self.task.remember(self._seeds(job))).units()

    def _told(self, units: Iterable[Unit], bar: console.Bar | None) -> Iterator[Unit]:
        for unit in units:
            yield unit
            if bar is not None:
                bar.advance()

    def _records(self, units: Iterable[Unit], maker: "Maker", sidecar: Sidecar, tally: Tally) -> Iterator[Record]:
        for unit in units:
            for nth, example in enumerate(unit.examples):
                record = maker.record(unit, nth, example)
                tally.count(record.checks[-1])
                by = example.by or unit.last
                if not record.dropped and by is not None and by.answered.completion.trace is not None:
                    sidecar.add(record.id, by.answered.completion.trace)
                yield record


class Maker:
    """Turns what a script ended with into records."""

    def __init__(self, teacher: Engine | None, stage: Generate) -> None:
        self._teacher, self._stage, self.problem = teacher, stage, ""
        self._about: dict[str, MadeBy] = {}

    def record(self, unit: Unit, nth: int, example: Example) -> Record:
        """One example; dropped where the task could not read it."""
        by = example.by or unit.last
        said = [m.model_dump() for m in unit.asked]
        made_of = {"seed": unit.seed.id, "messages": said, "sample": unit.sample} | ({"nth": nth} if nth else {})
        made_by = self._made_by(unit, by).model_copy(update=dict(example.made_by))
        if example.reason == "no_answer":
            self.problem = example.detail
        tokens = made_by.completion_tokens
        record = Record(
            id=digest(made_of),
            task=self._stage.task.kind,
            split=unit.seed.split,
            messages=example.messages,
            reasoning=example.reasoning,
            seeds=[unit.seed.id],
            made_by=made_by,
            checks=[Check(name="generate", value=tokens)],
            meta={**unit.seed.fields, **example.meta},
        )
        ok = not example.reason
        return record.checked(
            Check(name="generate", value=tokens, passed=ok, reason=example.reason, detail=example.detail)
        )

    def _made_by(self, unit: Unit, by: By | None) -> MadeBy:
        if by is None:
            return MadeBy(sample=unit.sample)
        request, completion = by.answered
        return self._engine(by.engine).model_copy(
            update={
                "sample": unit.sample,
                "seed": request.seed,
                "temperature": request.sampling.temperature,
                "top_p": request.sampling.top_p,
                "max_tokens": request.sampling.max_tokens,
                "finish_reason": completion.finish_reason,
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
            }
        )

    def _engine(self, engine: Engine | None) -> MadeBy:
        """What all answers of one engine have in common."""
        engine = engine or self._teacher
        assert engine is not None, "somebody has answered"
        name = engine.model_dump_json()
        if name not in self._about:
            words, licence = engine.words(), engine.licence
            if not licence and engine.weights():
                licence = find(engine.model, engine.revision).licence
            self._about[name] = MadeBy(
                engine=words["engine"],
                model=words["model"],
                revision=words["revision"],
                licence=licence,
                prompt=self._stage.task.prompt_name,
            )
        return self._about[name]
