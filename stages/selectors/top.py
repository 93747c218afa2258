"""The best-scored records, whatever they have in common."""

from typing import Literal

from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.ranks import by_score, verdicts


class Top(Selector):
    """The highest scores; ties by id."""

    kind: Literal["top"] = "top"

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Ranks by score."""
        order, scores = by_score(candidates)[:keep], candidates.scores
        last = f"the last one chosen has {scores[order[-1]]:.4g}"
        return verdicts(order, len(scores), lambda i: ("below_score", f"{scores[i]:.4g}; {last}"))
