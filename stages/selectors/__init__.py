"""Selectors: which few to keep. One file each; a new one is one line in `AnySelector`."""

from typing import Annotated

from pydantic import Field

from stages.selectors.cluster import Cluster
from stages.selectors.random import Random
from stages.selectors.top import Top

AnySelector = Annotated[Cluster | Random | Top, Field(discriminator="kind")]
