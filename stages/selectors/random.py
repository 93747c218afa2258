"""A uniform draw: the baseline every other selector has to beat."""

from typing import Literal

from pipeline.records import digest
from stages.selectors.base import Candidates, Choice, Selector


class Random(Selector):
    """A uniform draw under the plan's seed."""

    kind: Literal["random"] = "random"

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Ranks by a digest of seed and id, so that other candidates coming or going change little."""
        order = sorted(range(len(candidates.ids)), key=lambda i: digest([seed, candidates.ids[i]]))
        ranks = {i: rank for rank, i in enumerate(order)}
        return [Choice(ranks[i] < keep, ranks[i], "" if ranks[i] < keep else "not_drawn") for i in range(len(order))]
