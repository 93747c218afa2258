"""Sources: where seeds come from. One file each; a new one is one line in `AnySource`."""

from typing import Annotated

from pydantic import Field

from stages.sources.grid import Grid
from stages.sources.jsonl import Jsonl

AnySource = Annotated[Grid | Jsonl, Field(discriminator="kind")]
