"""Training objectives: what the student learns from. One file each; a new one is one line in `AnyObjective`."""

from typing import Annotated

from pydantic import Field

from stages.objectives.attention import Attention
from stages.objectives.dpkd import Dpkd
from stages.objectives.dpo import Dpo
from stages.objectives.feature import Feature
from stages.objectives.gkd import Gkd
from stages.objectives.private import Private
from stages.objectives.reverse_kl import ReverseKl
from stages.objectives.sft import Sft
from stages.objectives.soft_label import SoftLabel
from stages.objectives.step_by_step import StepByStep

AnyObjective = Annotated[
    Sft | StepByStep | SoftLabel | Feature | Attention | Private | ReverseKl | Gkd | Dpo | Dpkd,
    Field(discriminator="kind"),
]
"""What an objective is: the columns it trains on and the TRL trainer with its loss."""
