"""Filters: what may pass. One file a family; a new one is one line in `AnyFilter`."""

from typing import Annotated

from pydantic import Field

from filters.echo import Echo
from filters.exact import Exact
from filters.judge import Judge
from filters.length import Length
from filters.pairwise import Pairwise
from filters.repetition import Repetition
from filters.reward import Reward
from filters.script import Script
from filters.words import Words

AnyFilter = Annotated[Echo | Exact | Judge | Length | Pairwise | Repetition | Reward | Script | Words, Field(discriminator="kind")]
