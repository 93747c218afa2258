"""The plan: one YAML file that says what a run is."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from pipeline import config
from pipeline.component import Component
from pipeline.engines import AnyEngine
from pipeline.errors import UsageError
from stages.ablation.section import Ablate
from stages.base import Stage
from stages.curate import Curate
from stages.evaluate import Evaluate
from stages.filter import FilterStage
from stages.generate import Generate
from stages.train import Train

STAGES = ("generate", "filter", "curate", "train", "evaluate")
VERSIONED = (*STAGES, "ablate")  # what a run's folder holds versions of


class Plan(Component):
    """A whole run: the teacher and one section per stage. Stages that are left out are not run."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.-]*$", description="names the run's folder")]
    about: Annotated[str, Field(description="a line for people")] = ""
    seed: Annotated[int, Field(ge=0, lt=2**32, description="the one source of randomness")] = 0
    teacher: AnyEngine | None = None
    generate: Generate | None = None
    filter: FilterStage | None = None
    curate: Curate | None = None
    train: Train | None = None
    evaluate: Evaluate | None = None
    ablate: Ablate | None = None

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        if ".." in value:
            raise ValueError("may not hold `..`")
        return value

    def stages(self) -> dict[str, Stage]:
        """The stages this plan has, in order."""
        sections = ((name, getattr(self, name)) for name in STAGES)
        found: dict[str, Stage] = {name: section for name, section in sections if section is not None}
        if self.generate is not None and self.filter is not None:
            found["generate"] = self.generate.accepting(self.filter.free())
        return found

    def stage(self, name: str) -> Stage:
        """One stage. Raises UsageError where the plan has no such section."""
        found = self.stages().get(name)
        if found is None:
            raise UsageError(f"the plan {self.name} has no section `{name}`; it has {', '.join(self.stages())}")
        return found

    def upstream(self, name: str) -> list[str]:
        """The stages that `name` reads in this plan, its main input first."""
        have = self.stages()
        found = []
        for options in self.stage(name).needs:
            giver = next((o for o in options if o in have), None)
            found.append(giver or options[0])
        return found

    def settings(self, name: str) -> dict[str, Any]:
        """What shapes a stage's output, as plain JSON."""
        return self.stage(name).settings(self.seed, self.teacher)


def load(path: Path, overrides: tuple[config.Override, ...] = ()) -> Plan:
    """Read a plan file. Raises UsageError that lists every problem."""
    return config.load(Plan, path, overrides)
