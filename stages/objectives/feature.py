"""Hidden states of chosen layers (Romero et al. 2014, FitNets, arXiv 1412.6550), with learned projectors."""

from typing import Annotated, Literal

from pydantic import Field

from stages.objectives.distil import Distil
from stages.objectives.layers import Features


class Feature(Distil):
    """Hidden states of the teacher's layers beside its words; with `alpha`, beside soft labels too."""

    kind: Literal["feature"] = "feature"
    alpha: Annotated[
        float, Field(ge=0, le=1, description="weight of the soft labels; 1 - alpha is cross-entropy's")
    ] = 0.0
    features: Annotated[Features, Field(description="hidden states of layers, beside the words")]
