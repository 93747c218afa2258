"""A language model that compares: which of two answers to one prompt is the better one, asked in both orders.

Models lean to the answer they see first (or second; Wang et al. 2023, arXiv 2305.17926): an answer wins where it is
preferred in both places, and two verdicts that disagree are a tie. The score of an answer is its share of wins, ties
counted as halves, against a reference or against the other answers to its prompt that lie next to it.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from filters.appeals import without_appeals
from filters.base import Context, SetFilter
from filters.judge import TAKE
from filters.verdicts import asked_in, before_answer, fenced, portions, self_preference, verdicts
from pipeline.engines import AnyEngine, Completion, Engine, Request, Sampling
from pipeline.records import Check, Record
from prompts import PromptFile, bundled_prompt, load

NEEDS = {"prompt", "answer_a", "answer_b", "fence"}
LETTERS = ("A", "B")
GROUP = 64  # rows of one prompt that are compared among each other; further ones are a group of their own


class Duel(NamedTuple):
    """Two answers to one prompt."""

    id: str
    prompt: str
    first: str
    second: str


class Outcome(NamedTuple):
    """What came of a duel: the first one's share (1, 0.5, 0), and who was preferred in either order; or a problem."""

    share: float
    letters: str = ""
    reason: str = ""
    detail: str = ""

    @property
    def flipped(self) -> bool:
        """Whether the verdict followed the place instead of the answer."""
        return self.letters in ("AA", "BB")


class Pairwise(SetFilter):
    """Compares each answer with its rivals, in both orders, and drops those that lose too often."""

    bounds: ClassVar = (("min_share", "min"),)
    asking: ClassVar = True

    kind: Literal["pairwise"] = "pairwise"
    prompt: Annotated[PromptFile, Field(description="needs prompt, answer_a, answer_b, fence; asks for A or B")] = (
        bundled_prompt("judge", "pair")
    )
    reference: Annotated[
        str, Field(description="the row's field with the answer to beat; other answers to the prompt when left out")
    ] = ""
    rivals: Annotated[int, Field(ge=2, description="how many others of its prompt each answer meets, at most")] = 4
    min_share: Annotated[float, Field(ge=0, le=1, description="lowest share of wins that passes; a tie is half")] = 0.5
    engine: Annotated[AnyEngine | None, Field(description="who judges; the teacher when left out")] = None
    retries: Annotated[int, Field(ge=0, description="how often an unreadable verdict is asked for again")] = 2

    @model_validator(mode="after")
    def _compares(self) -> "Pairwise":
        front = load(self.prompt).front
        if not {"answer_a", "answer_b", "fence"} <= set(front.needs) <= NEEDS:
            raise ValueError(f"{self.prompt.name} does not compare: it needs {', '.join(sorted(NEEDS))}")
        return self

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """Who judges: the engine named, or the teacher."""
        engine = self.engine or teacher
        return [] if engine is None else [engine]

    def notes(self, teacher: Engine | None) -> list[str]:
        """What to know before trusting it."""
        return self_preference(self.label, self.asks(teacher), teacher)

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One share of wins per record; an answer without a rival passes."""
        if self.reference:
            yield from self._against_reference(records, context)
        else:
            yield from self._among_themselves(records, context)

    def duels(self, duels: Iterable[Duel], context: Context, nth: int = 0) -> Iterator[Outcome]:
        """What comes of each duel; the `nth` time around the same questions are asked anew."""
        requests = (request for duel in duels for request in self._requests(duel, nth))
        answers = verdicts(context, self.engine, requests, _readable, self.retries)
        for there, back in zip(answers, answers, strict=True):
            yield _outcome(there, back)

    def _requests(self, duel: Duel, nth: int) -> Iterator[Request]:
        for first, second in ((duel.first, duel.second), (duel.second, duel.first)):
            a, b = (without_appeals(answer, duel.prompt).text for answer in (first, second))
            values = {"answer_a": a, "answer_b": b, "prompt": duel.prompt}
            yield Request(
                id=duel.id,
                messages=load(self.prompt).render(fenced(values)),
                sampling=Sampling(temperature=0.0, max_tokens=2),
                sample=nth * TAKE,
                choices=LETTERS,
            )

    def _against_reference(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        counts: deque[int] = deque()

        def duels() -> Iterator[Duel]:
            for record in records:
                other = record.meta.get(self.reference)
                counts.append(int(isinstance(other, str) and other != ""))
                if isinstance(other, str) and other:
                    yield Duel(record.id, asked_in(record), record.answer, other)

        for outcomes in portions(self.duels(duels(), context), counts):
            if outcomes:
                yield self._check([(outcome, outcome.share) for outcome in outcomes])
            else:
                yield self.no(0, "missing_input", f"the row has no field {self.reference!r} to compare with")

    def _among_themselves(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        groups: deque[list[Record]] = deque()
        counts: deque[int] = deque()

        def duels() -> Iterator[Duel]:
            for group in _neighbours(records):
                pairs = _pairs(len(group), self.rivals)
                groups.append(group)
                counts.append(len(pairs))
                for i, j in pairs:
                    yield Duel(group[i].id, asked_in(group[i]), group[i].answer, group[j].answer)

        for outcomes in portions(self.duels(duels(), context), counts):
            size = len(groups.popleft())
            met: list[list[tuple[Outcome, float]]] = [[] for _ in range(size)]
            for (i, j), outcome in zip(_pairs(size, self.rivals), outcomes, strict=True):
                met[i].append((outcome, outcome.share))
                met[j].append((outcome, 1 - outcome.share))
            yield from map(self._check, met)

    def _check(self, met: list[tuple[Outcome, float]]) -> Check:
        """The verdict on an answer from what came of its duels; those without a verdict are left out."""
        if not met:
            return self.yes(0.5, "no other answer to this prompt")
        shares = [share for outcome, share in met if not outcome.reason]
        if not shares:
            problem = met[0][0]
            return self.no(0, problem.reason, problem.detail)
        wins, ties = shares.count(1.0), shares.count(0.5)
        share = sum(shares) / len(shares)
        detail = f"won {wins}, tied {ties}, lost {len(shares) - wins - ties}"
        return self.yes(share, detail) if share >= self.min_share else self.no(share, "outranked", detail)


def _readable(completion: Completion) -> bool:
    return completion.text.strip() in LETTERS


def _outcome(there: Completion, back: Completion) -> Outcome:
    for completion in (there, back):
        if completion.error:
            return Outcome(0, reason="no_verdict", detail=completion.error[:300])
        if not _readable(completion):
            return Outcome(0, reason="unreadable_verdict", detail=f"it said {completion.text[:80]!r}")
    letters = there.text.strip() + back.text.strip()
    return Outcome({"AB": 1.0, "BA": 0.0}.get(letters, 0.5), letters)


def _neighbours(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Rows that lie next to each other and answer the same."""
    for _, run in itertools.groupby(records, key=before_answer):
        while group := list(itertools.islice(run, GROUP)):
            yield group


def _pairs(size: int, rivals: int) -> list[tuple[int, int]]:
    """Who meets whom, each pair once: neighbours on a ring, so that all meet about as many."""
    reach = rivals // 2
    return [(i, j) for i, j in itertools.combinations(range(size), 2) if min(j - i, size - j + i) <= reach]
