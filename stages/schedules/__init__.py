"""Schedules: trainings in a row, each taught by the last. One file each; a new one is one line in `AnySchedule`."""

from typing import Annotated

from pydantic import Field

from stages.schedules.born_again import BornAgain
from stages.schedules.cascade import Cascade

AnySchedule = Annotated[BornAgain | Cascade, Field(discriminator="kind")]
"""What a schedule is: which students are trained, by whom, and which of them is the result."""
