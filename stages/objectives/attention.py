"""Attention transfer (MiniLM, arXiv 2002.10957, and MiniLMv2, arXiv 2012.15828)."""

from typing import Annotated, Literal

from pydantic import Field

from stages.objectives.distil import Distil
from stages.objectives.layers import Attention as Transfer


class Attention(Distil):
    """Where the teacher looks, beside its words; with `alpha`, beside soft labels too."""

    kind: Literal["attention"] = "attention"
    alpha: Annotated[
        float, Field(ge=0, le=1, description="weight of the soft labels; 1 - alpha is cross-entropy's")
    ] = 0.0
    attention: Annotated[Transfer, Field(description="where layers look, beside the words")]
