"""Sources: where seeds come from. One file each; a new one is one line in `AnySource`."""

from typing import Annotated

from pydantic import Field

from stages.sources.completions import Completions
from stages.sources.documents import Documents
from stages.sources.grid import Grid
from stages.sources.jsonl import Jsonl

AnySource = Annotated[Completions | Documents | Grid | Jsonl, Field(discriminator="kind")]
