"""A language model as judge: a rubric, one score from a fixed scale, and its probability-weighted mean.

The verdict is constrained to the scale's numbers (structured output). When the engine gives the first
token's log-probabilities the score is their expectation over the scale, renormalised (G-Eval, Liu et al.
2023, arXiv 2303.16634, section 2.3), which separates answers that share the likeliest number.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from filters.base import Context, SetFilter
from pipeline.engines import AnyEngine, Completion, Engine, Request, Sampling
from pipeline.records import Check, Record, digest
from prompts import PromptFile, load

LOGPROBS = 20


class Judge(SetFilter):
    """Scores each answer with a rubric and drops those under `min_score`."""

    kind: Literal["judge"] = "judge"
    prompt: Annotated[PromptFile, Field(description="a judge prompt: needs prompt, answer, fence; has a scale")]
    min_score: Annotated[float, Field(description="lowest score that passes, on the prompt's scale")] = 3.0
    engine: Annotated[AnyEngine | None, Field(description="who judges; the teacher when left out")] = None

    @model_validator(mode="after")
    def _has_scale(self) -> "Judge":
        scale = load(self.prompt).front.scale
        if scale is None:
            raise ValueError(f"{self.prompt.name} has no `scale` in its front matter: it is no judge prompt")
        if not scale[0] <= self.min_score <= scale[1]:
            raise ValueError(f"min_score {self.min_score} lies outside the prompt's scale {scale[0]} to {scale[1]}")
        load(self.prompt).require({"prompt", "answer", "fence"})
        return self

    def asks(self) -> Callable[[Engine | None], Engine | None]:
        """The judge's own engine, or the teacher."""
        return lambda teacher: self.engine or teacher

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One verdict per record; an unreadable one drops the record and is never guessed."""
        for answered in context.ask(self.engine, map(self._request, records)):
            yield self._verdict(answered.completion)

    def _request(self, record: Record) -> Request:
        prompt = load(self.prompt)
        fence = digest(record.answer, 8)  # the judged text cannot hold its own digest, so it cannot close the fence
        return Request(
            id=record.id,
            messages=prompt.render({"prompt": record.prompt, "answer": record.answer, "fence": fence}),
            sampling=Sampling(temperature=0.0, max_tokens=len(str(self._scale()[-1])) + 1),
            choices=tuple(map(str, self._scale())),
            logprobs=LOGPROBS,
        )

    def _scale(self) -> list[int]:
        low, high = load(self.prompt).front.scale or (1, 5)
        return list(range(low, high + 1))

    def _verdict(self, completion: Completion) -> Check:
        if completion.error:
            return self.no(0, "no_verdict", completion.error)
        score = expected_score(completion, self._scale())
        if score is None:
            return self.no(0, "unreadable_verdict", f"it said {completion.text[:80]!r}")
        if score < self.min_score:
            return self.no(score, "low_score", f"{score:.2f}, under {self.min_score:g}")
        return self.yes(score)


def expected_score(completion: Completion, scale: list[int]) -> float | None:
    """The expectation over the scale's single-token numbers, or the number said; None where there is neither."""
    labels = {str(n): n for n in scale}
    said = labels.get(completion.text.strip())
    if said is None:
        return None
    weights: dict[int, float] = {}
    for token, logprob in completion.logprobs.items():
        if (number := labels.get(token.strip())) is not None:
            weights[number] = weights.get(number, 0.0) + math.exp(logprob)
    total = sum(weights.values())
    if total <= 0 or max(scale) >= 10:  # two-digit labels are no single token: the first digit tells too little
        return float(said)
    return sum(number * weight for number, weight in weights.items()) / total
