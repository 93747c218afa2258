"""Filters: what may pass. One file a family; a new one is one line in `AnyFilter`."""

from typing import Annotated

from pydantic import Field

from filters.echo import Echo
from filters.exact import Exact
from filters.finish import Finish
from filters.format import Format
from filters.gopher import Gopher
from filters.identity import Identity
from filters.ifd import Ifd
from filters.judge import Judge
from filters.language import Language
from filters.leak import Leak
from filters.length import Length
from filters.near import Near
from filters.pairwise import Pairwise
from filters.perplexity import Perplexity
from filters.pii import Pii
from filters.placeholder import Placeholder
from filters.python import Python
from filters.refusal import Refusal
from filters.repetition import Repetition
from filters.reward import Reward
from filters.script import Script
from filters.words import Words

AnyFilter = Annotated[
    Echo
    | Exact
    | Finish
    | Format
    | Identity
    | Gopher
    | Ifd
    | Judge
    | Language
    | Leak
    | Length
    | Near
    | Pairwise
    | Perplexity
    | Pii
    | Placeholder
    | Python
    | Refusal
    | Repetition
    | Reward
    | Script
    | Words,
    Field(discriminator="kind"),
]
