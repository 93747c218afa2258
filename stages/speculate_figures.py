"""Arithmetic of speculative decoding: what was accepted, what theory expects, and where texts differ."""

from collections.abc import Sequence
from typing import Any, NamedTuple

TIE = {"float32": 0.01}  # nats between two tokens that rounding may turn round, by the engine's number format
TIE_BELOW = 0.5  # in 16 bits and less: a logit between 16 and 32 has steps of an eighth in bfloat16


class Pass(NamedTuple):
    """The same prompts with and without the draft, `batch` at once; speeds in tokens a second."""

    batch: int
    alone: float
    speculative: float
    drafts: int
    drafted: int
    accepted: int
    by_position: list[float]
    """Share of the drafts whose first, second... token was accepted."""

    @classmethod
    def of(cls, alone: dict[str, Any], speculative: dict[str, Any]) -> "Pass":
        """From what the two processes measured."""
        return cls(
            batch=alone["batch"],
            alone=_speed(alone),
            speculative=_speed(speculative),
            drafts=speculative["drafts"],
            drafted=speculative["drafted"],
            accepted=speculative["accepted"],
            by_position=[count / max(1, speculative["drafts"]) for count in speculative["by_position"]],
        )

    def plain(self) -> dict[str, Any]:
        """As JSON, with what follows from it."""
        more = {"speedup": self.speedup, "acceptance": self.acceptance, "tokens_per_step": self.tokens_per_step}
        return self._asdict() | more

    @property
    def speedup(self) -> float:
        """How many times as fast the teacher is with the draft."""
        return self.speculative / self.alone

    @property
    def acceptance(self) -> float:
        """Accepted over drafted tokens; what follows a refused token counts as drafted, too."""
        return self.accepted / max(1, self.drafted)

    @property
    def tokens_per_step(self) -> float:
        """Tokens that one step of the teacher gives: the accepted ones and its own."""
        return 1 + self.accepted / max(1, self.drafts)


def _speed(measured: dict[str, Any]) -> float:
    return float(sum(map(len, measured["answers"])) / measured["seconds"])


class Expected(NamedTuple):
    """What drafts pass by theory: `chance` of one token, given that those before it passed."""

    decoding: str
    chance: float
    acceptance: float
    tokens_per_step: float


class Difference(NamedTuple):
    """The first token at which an answer is not the teacher's alone, one prompt at a time."""

    id: str
    batch: int
    draft: bool
    """Whether there was one: the batch alone rounds differently, too."""
    at: int
    texts: list[str]
    """The teacher's token, and the one in its place."""
    less: float | None
    """How many nats less likely the teacher finds it; None where that could not be measured."""

    def tie(self, dtype: str) -> bool | None:
        """Whether rounding explains it; None where nobody knows."""
        return None if self.less is None else abs(self.less) <= TIE.get(dtype, TIE_BELOW)


def expected(decoding: str, chance: float, tokens: int) -> Expected:
    """`(1 - a^(g+1)) / (1 - a)` tokens a step for a chance a and g drafted tokens (arXiv 2211.17192)."""
    steps = sum(chance**k for k in range(tokens + 1))
    return Expected(decoding, chance, (steps - 1) / tokens, steps)


def replayed(matches: Sequence[Sequence[bool]], tokens: int) -> Expected:
    """Greedy decoding along answers whose tokens the draft would (not) have said: no chance, but those very runs.

    The first token of an answer comes from reading the prompt; each draft then gives its run of matches and one more.
    """
    drafts = accepted = 0
    for row in matches:
        at = 1
        while at < len(row):
            run = next((n for n, match in enumerate(row[at : at + tokens]) if not match), len(row[at : at + tokens]))
            drafts, accepted, at = drafts + 1, accepted + run, at + run + 1
    agreement = sum(map(sum, matches)) / max(1, sum(map(len, matches)))
    share = accepted / max(1, drafts)
    return Expected("greedy, replayed", agreement, share / tokens, 1 + share)


def parting(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Where two answers part; None where they are the same. Neither is the beginning of the other: both are whole."""
    if list(one) == list(other):
        return None
    return next(n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
