"""Born-again networks (Furlanello et al. 2018, arXiv 1805.04770): generations of one architecture."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline import console, torch_model
from stages.measure import answer_logprobs
from stages.schedules.base import Result, Schedule, School
from stages.student import Named, load
from stages.training import Lesson, Trained


class BornAgain(Schedule):
    """The same student again and again, each time taught by the last one; the best on held-out answers is kept.

    Every generation starts from the same weights, the first one taught by the plan's teacher. Their ensemble (the mean
    of their probabilities) is measured too.
    """

    kind: Literal["born_again"] = "born_again"
    generations: Annotated[int, Field(ge=2, le=20, description="how often the student is trained")] = 3

    def run(self, lesson: Lesson, school: School) -> Result:
        """Train generation after generation; without held-out answers the last is kept."""
        made: list[Trained] = []
        for n in range(1, self.generations + 1):
            teacher = Named(str(made[-1].folder / "model")) if made else lesson.teacher
            made.append(school.teach(lesson._replace(teacher=teacher), f"generation-{n}"))
        if not school.heldout:
            console.warn("born_again: there are no held-out answers to compare generations on; the last one is kept")
            return Result(made[-1], {"kept": made[-1].name})
        losses = [_losses(one, school.heldout) for one in made]
        each = [-sum(one) / len(one) for one in losses]
        together = -sum(_mean(values) for values in zip(*losses, strict=True)) / len(losses[0])
        best = made[each.index(min(each))]
        perplexities = {one.name: round(math.exp(loss), 3) for one, loss in zip(made, each, strict=True)}
        figures = {"kept": best.name, "heldout_perplexity": perplexities | {"ensemble": round(math.exp(together), 3)}}
        return Result(best, figures)


def _losses(one: Trained, heldout: list[list[dict[str, str]]]) -> list[float]:
    """The log-probability of each held-out token."""
    import torch

    model, tokenizer = load(str(one.folder / "model"))
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    found = [value for talk in heldout for value in answer_logprobs(model, tokenizer, talk).tolist()]
    del model
    torch_model.free()
    return found


def _mean(values: Any) -> float:
    """The logarithm of the mean of probabilities that are given by their logarithms."""
    top = max(values)
    return float(top + math.log(sum(math.exp(v - top) for v in values) / len(values)))
