"""The best-scored records, whatever they have in common."""

from typing import Literal

from stages.selectors.base import Candidates, Choice, Selector


class Top(Selector):
    """The highest scores; ties by id."""

    kind: Literal["top"] = "top"

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Ranks by score."""
        order = sorted(range(len(candidates.ids)), key=lambda i: (-candidates.scores[i], candidates.ids[i]))
        ranks = {i: rank for rank, i in enumerate(order)}
        return [Choice(ranks[i] < keep, ranks[i], "" if ranks[i] < keep else "below_score") for i in range(len(order))]
