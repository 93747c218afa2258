"""What models were asked about one record and what they said, asked again of the memo alone: nobody is asked anew.

Questions are not stored; they follow from the plan, the seed and earlier answers. A script or a judge is therefore
run once more with a job that answers from the memo only. What that gives is shown as the record's own only where the
record's id, which is a digest of the first question, comes out the same.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

from filters.base import SetFilter
from pipeline.engines import Answered, Completion, Engine, Request
from pipeline.engines.base import Source
from pipeline.errors import PipelineError
from pipeline.job import Job
from pipeline.records import Record, Seed
from pipeline.run import Run
from stages.generate import Generate, Maker
from stages.plan import Plan
from stages.scripts import Unit


class Exchange(NamedTuple):
    """One question, whom it went to, and the answer; None where the memo does not hold it."""

    model: str
    request: Request
    completion: Completion | None


class Recalled(NamedTuple):
    """The questions of the script that gave a record, in the order asked; `gave` is the place of its own."""

    exchanges: list[Exchange]
    gave: int
    problem: str = ""


class Recall(Job):
    """A job that asks the memo alone; `heard` holds what was asked, by the script that asked."""

    def __init__(self, plan: Plan, run: Run) -> None:
        super().__init__(run, plan.seed, plan.teacher)
        self.heard: dict[str, list[Exchange]] = {}

    def answers(self, engine: Engine, requests: Iterable[Request | None]) -> Iterator[Answered]:
        """What is remembered; an error for the rest."""
        words, source = engine.words(), Source(requests)
        while (request := source.next()) is not None or not source.exhausted:
            if request is None:
                continue
            place = request.key(words), request.sampling.max_tokens
            known = self.memo.get([place]).get(place) if self.run.memo.is_file() else None
            self.heard.setdefault(request.id.partition(".")[0], []).append(Exchange(engine.model, request, known))
            yield Answered(request, known or Completion(error="not in the memo"))


def teacher(plan: Plan, run: Run, record: Record, seed: Seed) -> Recalled:
    """What the teacher was asked and said; `problem` tells why that cannot be had."""
    stage = plan.stages().get("generate")
    if not isinstance(stage, Generate):
        return Recalled([], 0, "the plan has no section `generate`")
    sample = record.made_by.sample
    with closing(Recall(plan, run)) as recall:
        alone = iter([(seed, sample)])
        starts = alone if stage.task.lag is None else stage.starts(recall, sample // stage.samples + 1)
        try:
            for unit in stage.scripts(recall, starts):
                heard = recall.heard.pop(str(unit.index), [])
                if (unit.seed.id, unit.sample) == (seed.id, sample):
                    return _matched(Maker(plan.teacher, stage), unit, heard, record)
        except PipelineError as error:
            return Recalled([], 0, f"its question cannot be put together again: {error.args[0]}")
    return Recalled([], 0, "the plan's source does not give its seed and sample any more")


def _matched(maker: Maker, unit: Unit, heard: list[Exchange], record: Record) -> Recalled:
    """The exchanges of a script, where one of its examples is the record."""
    for nth, example in enumerate(unit.examples):
        if maker.record(unit, nth, example).id == record.id:
            by = example.by or unit.last
            asked = by.answered.request.id if by else ""
            place = next((n for n, one in enumerate(heard) if one.request.id == asked), 0)
            return Recalled(heard, place)
    forgotten = any(one.completion is None for one in heard)
    why = "what the plan asks by now is not in the memo" if forgotten else "the plan asks something else by now"
    return Recalled([], 0, f"its question cannot be put together again: {why}")


def judge(plan: Plan, run: Run, record: Record, rule: SetFilter) -> list[Exchange]:
    """What a rule that asks a model asked about a record, and the verdicts. Raises PipelineError.

    Nothing comes of a rule that compares answers with each other: its questions hang on other rows.
    """
    with closing(Recall(plan, run)) as recall:
        for _ in rule.sift([record], recall):
            pass
        return [one for heard in recall.heard.values() for one in heard]
