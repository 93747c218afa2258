"""A language model as judge: a rubric, one score from a fixed scale, and its probability-weighted mean.

The verdict is constrained to the scale's numbers (structured output). When the engine gives the first
token's log-probabilities the score is their expectation over the scale, renormalised (G-Eval, Liu et al.
2023, arXiv 2303.16634, section 2.3), which separates answers that share the likeliest number. Several votes
draw numbers instead, for engines without log-probabilities; several models are a jury (Verga et al. 2024,
arXiv 2404.18796).
"""

import itertools
import math
import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from filters.appeals import Shown, without_appeals
from filters.base import Context, SetFilter
from filters.verdicts import Aggregate, asked_in, combined, drawn_seed, fenced, portions, self_preference, verdicts
from pipeline.engines import AnyEngine, Completion, Engine, Request, Sampling
from pipeline.records import Check, Record
from prompts import PromptFile, load

LOGPROBS = 20
GIVEN = ("prompt", "answer", "fence")
SHOWN = 30  # votes in a detail
TAKE = 1000  # the samples of one take are numbered from a multiple of this
Words = Annotated[str, Field(min_length=1)]


class Judge(SetFilter):
    """Scores each answer with a rubric and drops those under `min_score`."""

    bounds: ClassVar = (("min_score", "min"),)
    asking: ClassVar = True

    kind: Literal["judge"] = "judge"
    prompt: Annotated[PromptFile, Field(description="a judge prompt: needs prompt, answer, fence; has a scale")]
    fields: Annotated[
        dict[str, Words],
        Field(description="what else the prompt needs, by the row's field: {source: text}; the same name if left out"),
    ] = {}
    min_score: Annotated[float, Field(description="lowest score that passes, on the prompt's scale")] = 3.0
    engine: Annotated[AnyEngine | None, Field(description="who judges; the teacher when left out")] = None
    engines: Annotated[list[AnyEngine], Field(description="a jury in place of `engine`; all are loaded at once")] = []
    votes: Annotated[
        int, Field(ge=1, le=99, description="drawn verdicts of each judge; log-probabilities make one enough")
    ] = 1
    temperature: Annotated[float | None, Field(ge=0, description="when left out 0 for one vote, 1 for several")] = None
    aggregate: Annotated[
        Aggregate, Field(description="of votes and jury; majority: the highest score that more than half reach")
    ] = "mean"
    retries: Annotated[int, Field(ge=0, description="how often an unreadable verdict is asked for again")] = 2

    @model_validator(mode="after")
    def _has_scale(self) -> "Judge":
        front = load(self.prompt).front
        if front.scale is None:
            raise ValueError(f"{self.prompt.name} has no `scale` in its front matter: it is no judge prompt")
        if not front.scale[0] <= self.min_score <= front.scale[1]:
            raise ValueError(
                f"min_score {self.min_score} lies outside the prompt's scale {front.scale[0]} to {front.scale[1]}"
            )
        if not {"answer", "fence"} <= set(front.needs):
            raise ValueError(f"{self.prompt.name} needs no answer between fences: it is no judge prompt")
        if unknown := sorted(set(self.fields) - set(self._inputs())):
            raise ValueError(f"fields: {self.prompt.name} does not need {unknown[0]!r}")
        return self

    @model_validator(mode="after")
    def _votes_differ(self) -> "Judge":
        if self.engine is not None and self.engines:
            raise ValueError("give either `engine` or `engines`")
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(f"{self.votes} votes at temperature 0 are one vote: leave temperature out, or raise it")
        return self

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """Who judges: the engines named, or the teacher."""
        named: list[Engine | None] = [*self.engines] or [self.engine or teacher]
        return [engine for engine in named if engine is not None]

    def notes(self, teacher: Engine | None) -> list[str]:
        """What to know before trusting it."""
        return self_preference(self.label, self.asks(teacher), teacher)

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One verdict per record; one that stays unreadable drops the record and is never guessed."""
        yield from self.take(records, context)

    def take(self, records: Iterable[Record], context: Context, nth: int = 0) -> Iterator[Check]:
        """One verdict per record; the `nth` time around the same questions are asked anew."""
        jurors: list[Engine | None] = [*self.engines] or [self.engine]
        shown, *streams = itertools.tee(records, len(jurors) + 1)
        ballots = [self._ballots(s, engine, context, nth) for s, engine in zip(streams, jurors, strict=True)]
        for *cast, record in zip(*ballots, shown, strict=True):
            yield self._verdict(record, [completion for ballot in cast for completion in ballot])

    def _ballots(
        self, records: Iterable[Record], engine: Engine | None, context: Context, nth: int
    ) -> Iterator[list[Completion]]:
        """Each record's votes by one juror; none where the prompt cannot be filled in."""
        counts: deque[int] = deque()

        def requests() -> Iterator[Request]:
            for record in records:
                asked = self._requests(record, context.seed, nth)
                counts.append(len(asked))
                yield from asked

        return portions(verdicts(context, engine, requests(), self._readable, self.retries), counts)

    def _requests(self, record: Record, seed: int, nth: int) -> list[Request]:
        values = self._values(record)
        if isinstance(values, str):
            return []
        messages = load(self.prompt).render(fenced(values))
        heat = self.temperature if self.temperature is not None else float(self.votes > 1)
        scale = tuple(map(str, self._scale()))
        samples = [nth * TAKE + vote for vote in range(self.votes)]
        return [
            Request(
                id=record.id,
                messages=messages,
                sampling=Sampling(temperature=heat, max_tokens=len(scale[-1]) + 1),
                seed=drawn_seed(seed, sample, [m.content for m in messages]) if heat else 0,
                sample=sample,
                choices=scale,
                logprobs=LOGPROBS if self.votes == 1 else 0,
            )
            for sample in samples
        ]

    def _inputs(self) -> list[str]:
        """What the prompt needs besides what every record has."""
        return [need for need in load(self.prompt).front.needs if need not in GIVEN]

    def _values(self, record: Record) -> dict[str, str] | str:
        """What fills the prompt in, the judged text first; or the name of the field that the row has not."""
        values = {"answer": self._shown(record).text, "prompt": asked_in(record)}
        for need in self._inputs():
            field = self.fields.get(need, need)
            value: Any = record.meta.get(field)
            if value is None or value == "":
                return field
            values[need] = value if isinstance(value, str) else str(value)
        return values

    def _scale(self) -> list[int]:
        low, high = load(self.prompt).front.scale or (1, 5)
        return list(range(low, high + 1))

    def _readable(self, completion: Completion) -> bool:
        return expected_score(completion, self._scale()) is not None

    def _verdict(self, record: Record, cast: list[Completion]) -> Check:
        if not cast:
            return self.no(0, "missing_input", f"the row has no field {self._values(record)!r}, which the prompt needs")
        of = f"{{}} of {len(cast)} votes: " if len(cast) > 1 else ""
        if failed := [c.error for c in cast if c.error]:
            return self.no(0, "no_verdict", of.format(len(failed)) + failed[0][:300])
        scores = [expected_score(completion, self._scale()) for completion in cast]
        if unread := [c.text for c, score in zip(cast, scores, strict=True) if score is None]:
            return self.no(0, "unreadable_verdict", of.format(len(unread)) + f"it said {unread[0][:80]!r}")
        numbers = [score for score in scores if score is not None]
        score = combined(numbers, self.aggregate)
        notes = [f"left out: {appeal[:80]!r}" for appeal in self._shown(record).appeals[:3]]
        if len(numbers) > 1:
            said = " ".join(f"{n:.3g}" for n in numbers[:SHOWN])
            notes.insert(0, f"votes {said}, spread {statistics.pstdev(numbers):.2f}")
        if score < self.min_score:
            return self.no(score, "low_score", "; ".join([f"{score:.2f}, under {self.min_score:g}", *notes]))
        return self.yes(score, "; ".join(notes))

    def _shown(self, record: Record) -> Shown:
        return without_appeals(record.answer, asked_in(record))


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
