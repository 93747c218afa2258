"""Reverse KL on the student's own answers (MiniLLM, Gu et al. 2023, arXiv 2306.08543)."""

from typing import Literal

from stages.objectives.on_policy import OnPolicy


class ReverseKl(OnPolicy):
    """KL(student || teacher) along the student's own answers: it drops what the teacher would not say.

    MiniLLM's direction, token by token over the whole vocabulary; without its return over the rest of the answer, its
    sampling from the teacher and its language-model loss.
    """

    kind: Literal["reverse_kl"] = "reverse_kl"

    @property
    def direction(self) -> float:
        """Reverse."""
        return 1.0

    @property
    def own_share(self) -> float:
        """Every answer."""
        return 1.0
