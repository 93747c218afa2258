"""What the plan's judges say: a score for every answer, and duels of the trained student with the other models.

A pairwise judge sees two answers in both orders. A small one may go by the place alone, and then all duels are ties;
a grading judge sees one answer at a time, and whose score is the higher one has won.

Verdicts are asked for through the job, so that none is paid for twice.
"""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from pydantic import Field

from filters.base import Context
from filters.judge import Judge
from filters.pairwise import Duel, Outcome, Pairwise
from filters.verdicts import UNMEASURED, asked_in
from stages.bootstrap import Column, Score
from stages.scores.base import Columns, Metric, Paper

AnyJudge = Annotated[Judge | Pairwise, Field(discriminator="kind")]


class Duels(NamedTuple):
    """One judge's verdicts on two models, prompt by prompt. `metric` is the first one's win rate."""

    judge: str
    first: str
    second: str
    outcomes: list[Outcome]

    @property
    def metric(self) -> Metric:
        """The share of prompts that the first model wins, ties as halves."""
        return Metric(f"{self.judge}_vs_{self.second}", f"{self.judge}: wins over {self.second}", style="share")

    @property
    def column(self) -> Column:
        """1, 0.5 or 0 a prompt; None where there was no verdict."""
        return [None if outcome.reason else Score(outcome.share) for outcome in self.outcomes]

    def plain(self) -> dict[str, str | int]:
        """Counts, as JSON. `flipped`: ties for which the judge went by the place of an answer."""
        shares = [outcome.share for outcome in self.outcomes if not outcome.reason]
        return {
            "judge": self.judge,
            "first": self.first,
            "second": self.second,
            "metric": self.metric.name,
            "won": shares.count(1.0),
            "tied": shares.count(0.5),
            "lost": shares.count(0.0),
            "flipped": sum(outcome.flipped for outcome in self.outcomes if not outcome.reason),
            "no_verdict": len(self.outcomes) - len(shares),
        }


def graded(judge: Judge, paper: Paper, context: Context) -> Columns:
    """The judge's score for each answer."""
    metric = Metric(f"{judge.label}_score", f"{judge.label} score")
    records = (x.said(answer) for answer, x in zip(paper.answers, paper.answered, strict=True))
    checks = judge.sift(records, context)
    return {metric: [None if check.reason in UNMEASURED else Score(check.value) for check in checks]}


def outscored(judge: Judge, first: str, second: str, one: Column, other: Column) -> Duels:
    """Whose score is higher on each prompt."""
    outcomes = []
    for a, b in zip(one, other, strict=True):
        if a is None or b is None:
            outcomes.append(Outcome(0, reason="no_verdict"))
        else:
            outcomes.append(Outcome((1 + (a.value > b.value) - (a.value < b.value)) / 2))
    return Duels(judge.label, first, second, outcomes)


def fought(judge: Pairwise, first: str, second: str, papers: dict[str, Paper], context: Context) -> Duels:
    """Both models' answers to every prompt, compared."""

    def duels() -> Iterator[Duel]:
        pairs = zip(papers[first].answered, papers[first].answers, papers[second].answers, strict=True)
        for example, one, other in pairs:
            yield Duel(example.record.id, asked_in(example.record), one, other)

    return Duels(judge.label, first, second, list(judge.duels(duels(), context)))
