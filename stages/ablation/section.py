"""The plan's `ablate` section: which students are trained, and what they are compared with."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.component import Component, Knob
from stages.student import Student

Data = Literal["unfiltered", "random", "filtered", "curated"]
DATA: tuple[Data, ...] = ("unfiltered", "random", "filtered", "curated")
BESIDE = ("untrained", "teacher")  # what arms are shown beside
NAME = r"^[\w][\w.-]*$"


class Variant(Component):
    """The plan with other settings, or on other rows."""

    set: Annotated[dict[str, Any], Field(description="place: value, as `--set place=value`")] = {}
    data: Annotated[
        Data | None,
        Field(
            description="unfiltered: all that was generated; random, filtered: a draw of `rows` of that, or of what "
            "has passed the filters; curated: what was chosen. The last there is, where left out"
        ),
    ] = None
    pass_rate: Annotated[
        float | None, Field(gt=0, le=1, description="draw from the best such share of what was generated, by `score`")
    ] = None
    score: Annotated[str, Field(description="the check whose value ranks rows for `pass_rate`")] = "judge"
    against: Annotated[
        str, Field(description="the arm it is compared with; the plan's own where left out, random for a pass_rate")
    ] = ""

    @model_validator(mode="after")
    def _differs(self) -> "Variant":
        if self.pass_rate is not None and self.data is not None:
            raise ValueError("give `pass_rate` or `data`: a pass rate says which rows")
        if not self.set and self.data is None and self.pass_rate is None:
            raise ValueError("nothing differs from the plan: give `set`, `data` or `pass_rate`")
        if "name" in self.set or any(place.split(".")[0] == "ablate" for place in self.set):
            raise ValueError("`set` may not change the plan's name or its `ablate` section")
        return self


class Ablate(Component):
    """The same student, trained several times on each of several choices of rows and settings."""

    seeds: Annotated[int, Field(ge=1, le=100, description="students of each arm, from the plan's seed upwards")] = 3
    rows: Annotated[
        int | None,
        Field(ge=1, description="rows of a draw, and those that curate keeps; as many as the plan's where left out"),
    ] = None
    tokens: Annotated[
        int | None, Field(ge=1, description="that every student goes through; what the plan's own does where left out")
    ] = None
    arms: Annotated[list[Data], Field(description="choices of rows; one whose stage the plan has not is left out")] = [
        *DATA
    ]
    variants: dict[Annotated[str, Field(pattern=NAME)], Variant] = {}
    cross_architecture: Annotated[
        dict[Annotated[str, Field(pattern=NAME)], Student], Field(description="other students for the plan's own rows")
    ] = {}
    heldout: Annotated[
        Literal["filter", "generate"],
        Field(description="whose held-out answers measure: those that passed the filters, or all"),
    ] = "filter"
    keep_students: Annotated[bool, Knob(), Field(description="keep their weights, too, once they are measured")] = False

    @field_validator("arms")
    @classmethod
    def _once(cls, arms: list[Data]) -> list[Data]:
        return [name for name in DATA if name in arms]

    @model_validator(mode="after")
    def _named_apart(self) -> "Ablate":
        names = [*DATA, *BESIDE, *self.variants, *self.cross_architecture]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two arms are called {double[0]}")
        for name, variant in self.variants.items():
            others = [other for other in names if other not in (*BESIDE, name)]
            if variant.against and variant.against not in others:
                known = ", ".join(others)
                raise ValueError(f"variants.{name}.against: there is no arm {variant.against}; there are {known}")
        return self
