"""Selectors: which few to keep. One file each; a new one is one line in `Plain`."""

from typing import Annotated

from pydantic import Field

from stages.selectors.mixture import Mixture
from stages.selectors.plain import Plain

AnySelector = Annotated[Plain | Mixture, Field(discriminator="kind")]
