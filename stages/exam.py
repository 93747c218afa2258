"""The exam: the same questions for every model, put by one process a model; and what comes of its answers."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from filters.verdicts import before_answer
from pipeline import console
from pipeline.engines import Sampling
from pipeline.errors import PipelineError
from pipeline.records import Record
from stages import child
from stages.evaluate_figures import Measured
from stages.scores import FAMILIES
from stages.scores.base import Columns, Example, Loss, Paper
from stages.scores.human import Text
from stages.scores.leaks import leaked
from stages.scores.likelihood import human
from stages.scores.probes import Probe, probed


class Exam(NamedTuple):
    """What every model reads and answers."""

    examples: list[Example]
    asked: int
    """of the examples, the first so many are answered"""
    texts: list[Text]
    probes: list[Probe]
    sampling: Sampling
    seed: int

    @property
    def steps(self) -> int:
        """What one model has to go through."""
        return sum(len(x.references) for x in self.examples) + self.asked + len(self.texts) + len(self.probes)

    def task(self) -> dict[str, Any]:
        """As `stages.measure` takes it, without the model."""
        turns = [[m.model_dump() for m in before_answer(x.record)] for x in self.examples]
        said = [[{"role": "assistant", "content": reference} for reference in x.references] for x in self.examples]
        return {
            "seed": self.seed,
            "conversations": [[*asked, last] for asked, lasts in zip(turns, said, strict=True) for last in lasts],
            "texts": [text.task for text in self.texts],
            "asked": turns[: self.asked],
            "probes": [[turn.model_dump() for turn in probe.messages] for probe in self.probes],
            "sampling": self.sampling.model_dump(),
        }

    def sit(self, model: dict[str, Any], bar: console.Bar, log: Path) -> Measured:
        """What `stages.measure` finds of a model, given as `stages.student.load` takes it. Raises ModelError."""
        return child.ask("stages.measure", self.task() | {"model": model}, bar, log)

    def paper(self, measured: Measured) -> Paper:
        """What a model wrote, the losses of several answers to one prompt taken together."""
        rest = iter(measured["losses"])
        losses = []
        for x in self.examples:
            parts = list(islice(rest, len(x.references)))
            size = sum(len(reference.encode()) for reference in x.references)
            losses.append(Loss(sum(nats for nats, _ in parts), sum(tokens for _, tokens in parts), size))
        said = measured["answers"]
        return Paper(self.examples, [a["text"] for a in said], [a["ended"] for a in said], losses)

    def given(self) -> Paper:
        """The held-out answers themselves: what stands for a teacher on a server, who is not asked."""
        return Paper(self.examples, [x.references[0] for x in self.examples[: self.asked]], own=True)

    def columns(self, paper: Paper, measured: Measured | None) -> Columns:
        """Every metric that needs no judge; without measures, those of the answers alone."""
        found: Columns = {}
        for family in FAMILIES:
            found |= family(paper)
        if measured is not None:
            read = zip(measured["texts"], self.texts, strict=True)
            found |= human([Loss(nats, tokens, len(text.said.encode())) for (nats, tokens), text in read])
            found |= probed(self.probes, [said["text"] for said in measured["probes"]])
        return found


def failures(name: str, measured: Measured) -> list[str]:
    """A note where a model could not answer."""
    if failed := [said["error"] for said in (*measured["answers"], *measured["probes"]) if said["error"]]:
        return [f"{name} could not answer {len(failed)} prompts, which count as empty: {failed[0]}"]
    return []


def heldout(records: Iterable[Record], trained: set[str], most: int) -> tuple[list[Example], list[str]]:
    """Held-out prompts with their answers, `most` answers in all, and the ids of records whose prompt was trained on.

    Raises PipelineError where none is left.
    """
    left: list[str] = []

    def sound() -> Iterable[Record]:
        for record in records:
            if leaked(record, trained):
                left.append(record.id)
            elif record.answer and record.messages[-1].role == "assistant":
                yield record

    found: dict[bytes, list[Record]] = {}
    for record in islice(sound(), most):
        key = orjson.dumps([turn.model_dump() for turn in before_answer(record)])
        found.setdefault(key, []).append(record)
    if not found:
        if left:
            raise PipelineError(
                f"all {len(left)} held-out prompts are among the training rows, so nothing can be evaluated",
                hint="hold out by prompt: give the source more different rows",
            )
        raise PipelineError(
            "there are no held-out records to evaluate on",
            hint="set generate.heldout above 0, or loosen the filters that dropped them",
        )
    return [Example(records[0], tuple(r.answer for r in records)) for records in found.values()], left
