"""Generalised knowledge distillation (Agarwal et al. 2023, arXiv 2306.13649)."""

from typing import Annotated, Literal

from pydantic import Field

from stages.objectives.on_policy import OnPolicy


class Gkd(OnPolicy):
    """The teacher's distribution along answers of which the student wrote a share itself."""

    kind: Literal["gkd"] = "gkd"
    beta: Annotated[
        float,
        Field(ge=0, le=1, description="0 forward KL, 1 reverse KL; between: JSD, the teacher's share of the mean"),
    ] = 0.5
    lmbda: Annotated[
        float, Field(ge=0, le=1, description="share of rows whose answer the student writes, drawn at each step")
    ] = 0.5

    @property
    def direction(self) -> float:
        """As given."""
        return self.beta

    @property
    def own_share(self) -> float:
        """As given."""
        return self.lmbda
