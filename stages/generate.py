"""generate: the teacher writes examples. Seeds in, records out, in the order asked."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from pipeline import console
from pipeline.engines import Answered, Engine, Request, Sampling
from pipeline.errors import ModelError, UsageError
from pipeline.job import Job
from pipeline.models import find
from pipeline.records import Check, MadeBy, Record, Seed, digest
from pipeline.store import Tally, VersionWriter
from stages.base import Inputs, Stage
from stages.sources import AnySource
from stages.tasks import AnyTask
from stages.tasks.base import Question


class _Asked(NamedTuple):
    record_id: str
    seed: Seed
    sample: int
    question: Question


class Generate(Stage):
    """Ask the teacher about every seed."""

    stage: ClassVar[str] = "generate"
    takes_rows: ClassVar[bool] = False

    source: AnySource
    task: AnyTask
    sampling: Sampling = Sampling()
    samples: Annotated[int, Field(ge=1, description="answers per seed")] = 1
    heldout: Annotated[float, Field(ge=0, lt=1, description="share of the seeds kept out of training")] = 0.1
    truncated: Annotated[
        Literal["drop", "keep"], Field(description="answers cut by max_tokens: a student trained on them never ends")
    ] = "drop"
    chat_template_kwargs: Annotated[dict[str, Any], Field(description="for example enable_thinking: false")] = {}

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """The teacher."""
        if teacher is None:
            raise UsageError("the plan has no teacher", hint="give it one: teacher: {kind: vllm, model: ...}")
        return [teacher]

    def prepare(self, job: Job, inputs: Inputs) -> None:
        """Every seed is read and rendered once before the first is asked: a bad line costs no tokens."""
        self.task.require(self.source.fields())
        inputs.total = sum(self.samples for seed in self._seeds(job) if self.task.ask(seed))
        if inputs.total == 0:
            raise UsageError("generate.source gives no seeds")

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Write one record per request; unreadable, failed and truncated answers are dropped with a reason."""
        maker = self._maker(job)
        pending: deque[_Asked] = deque()
        tally = Tally(step="generate")
        with console.Bar("generate", inputs.total) as bar:
            for answered in job.ask(None, self._requests(job, pending)):
                record = self._record(pending.popleft(), answered, maker)
                tally.came += 1
                if record.dropped:
                    tally.dropped[record.reason] = tally.dropped.get(record.reason, 0) + 1
                else:
                    tally.kept += 1
                out.write(record)
                bar.advance()
        if tally.dropped.get("no_answer") == tally.came:
            raise ModelError(f"the teacher answered none of {tally.came} requests; the last problem: {record.detail}")
        out.manifest.ledger.append(tally)

    def _seeds(self, job: Job) -> Iterator[Seed]:
        return islice(self.source.seeds(job.seed, self.heldout), job.limit)

    def _requests(self, job: Job, pending: deque[_Asked]) -> Iterator[Request]:
        for seed in self._seeds(job):
            question = self.task.ask(seed)
            said = [m.model_dump() for m in question.messages]
            for sample in range(self.samples):
                record_id = digest({"seed": seed.id, "messages": said, "sample": sample})
                pending.append(_Asked(record_id, seed, sample, question))
                yield Request(
                    id=record_id,
                    messages=question.messages,
                    sampling=self.sampling,
                    seed=int(digest([job.seed, said, sample], 7), 16),
                    sample=sample,
                    chat_template_kwargs=self.chat_template_kwargs,
                )

    def _maker(self, job: Job) -> MadeBy:
        (teacher,) = self.asks(job.teacher)
        words, licence = teacher.words(), teacher.licence
        if not licence and teacher.weights():
            licence = find(teacher.model, teacher.revision).licence
        return MadeBy(
            engine=words["engine"],
            model=words["model"],
            revision=words["revision"],
            licence=licence,
            prompt=self.task.prompt_name,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=self.sampling.max_tokens,
        )

    def _record(self, asked: _Asked, answered: Answered, maker: MadeBy) -> Record:
        completion = answered.completion
        reading = self.task.read(asked.question, completion)
        reason, detail = reading.reason, reading.detail
        if not reason and completion.finish_reason == "length" and self.truncated == "drop":
            reason, detail = "truncated", f"cut after {completion.completion_tokens} tokens"
        made_by = maker.model_copy(
            update={
                "sample": asked.sample,
                "seed": answered.request.seed,
                "finish_reason": completion.finish_reason,
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
            }
        )
        check = Check(
            name="generate", value=completion.completion_tokens, passed=not reason, reason=reason, detail=detail
        )
        record = Record(
            id=asked.record_id,
            task=self.task.kind,
            split=asked.seed.split,
            messages=reading.messages,
            seeds=[asked.seed.id],
            made_by=made_by,
            checks=[Check(name="generate", value=completion.completion_tokens)],
            meta=dict(asked.seed.fields),
        )
        return record.checked(check)
