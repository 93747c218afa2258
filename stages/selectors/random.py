"""A uniform draw: the baseline every other selector has to beat."""

from typing import Literal

from pipeline.records import digest
from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.ranks import verdicts


class Random(Selector):
    """A uniform draw under the plan's seed."""

    kind: Literal["random"] = "random"

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Ranks by a digest of seed and id, so that other candidates coming or going change little."""
        ids = candidates.ids
        order = sorted(range(len(ids)), key=lambda i: digest([seed, ids[i]]))
        return verdicts(order[:keep], len(ids), lambda i: ("not_drawn", ""))
