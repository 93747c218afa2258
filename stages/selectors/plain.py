"""The selectors that see one set of candidates; a new one is one line here."""

from typing import Annotated

from pydantic import Field

from stages.selectors.cluster import Cluster
from stages.selectors.dpp import Dpp
from stages.selectors.facility import Facility
from stages.selectors.gradient import Gradient
from stages.selectors.herding import Herding
from stages.selectors.k_center import KCenter
from stages.selectors.random import Random
from stages.selectors.score_first import ScoreFirst
from stages.selectors.top import Top

Plain = Annotated[
    Cluster | Dpp | Facility | Gradient | Herding | KCenter | Random | ScoreFirst | Top, Field(discriminator="kind")
]
