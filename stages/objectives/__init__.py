"""Training objectives: what the student learns from. One file each; a new one is one line in `AnyObjective`."""

from typing import Annotated

from pydantic import Field

from stages.objectives.sft import Sft

AnyObjective = Annotated[Sft, Field(discriminator="kind")]
