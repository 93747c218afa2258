"""What calibrations found, kept in the run's folder `review/`: a file for each rule and gold file, the newest counts.

It is no version: nothing is made from it. The report and the card show it, and say where the rule of the version they
tell of has other settings than the one that was asked.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.component import file_digest
from pipeline.records import Number, digest
from pipeline.run import Run
from pipeline.store import Version, pretty, write_atomic
from stages.agreement import Figure
from stages.calibrate import Calibration, Options
from stages.filter import FilterStage, judges_of
from stages.flow import changes
from stages.plan import Plan

FILES = "review/calibrated-*.json"
MAIN = ("spearman", "kappa", "pair_accuracy")  # figures that say how far a rule agrees, in a line


class GoldFile(NamedTuple):
    """The marks as they lay in their file when the judges were asked."""

    path: Path
    sha256: str


class Found(BaseModel):
    """A figure and the ends of its 95 % interval; None where it is undefined or has none."""

    name: str
    value: Number | None
    low: Number | None
    high: Number | None

    @property
    def figure(self) -> Figure:
        """As it was measured."""
        return Figure(self.name, self.value, self.low, self.high)


class Calibrated(BaseModel):
    """One rule against one gold file."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    rule: str
    gold: str
    """the file's name"""
    sha256: str
    sort: Literal["scores", "preferences"]
    rows: int
    unmeasured: dict[str, int]
    figures: list[Found]
    notes: list[str]
    options: dict[str, Any]
    settings: dict[str, Any]
    """the rule's, as manifests have them"""
    models: list[dict[str, Any]]
    """those it asked"""
    made: str

    def main(self) -> list[Figure]:
        """The figures that say most."""
        return [found.figure for found in self.figures if found.name in MAIN and found.value is not None]

    def changed(self, version: Version) -> list[str]:
        """What the rule of a filter version has otherwise than the one that was asked."""
        settings = version.manifest.settings
        rules = settings.get("filter", {}).get("rules", [])
        now = next((rule for rule in rules if (rule.get("name") or rule["kind"]) == self.rule), None)
        if now is None:
            return ["the version has no rule of that name"]
        models = settings.get("models", [])
        others = [] if all(model in models for model in self.models) else changes(self.models, models, "models")
        return changes(self.settings, now) + others


def gold_file(path: Path) -> GoldFile:
    """What a file of marks holds at this moment."""
    return GoldFile(path, file_digest(path))


def keep(plan: Plan, run: Run, gold: GoldFile, options: Options, found: Sequence[Calibration]) -> list[Path]:
    """Write what was found of each rule, in the place of what was known of it by the same gold file."""
    stage = plan.stage("filter")
    assert isinstance(stage, FilterStage)
    rules = {rule.label: rule for rule in stage.rules}
    folder = run.path / "review"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for one in found:
        rule = rules[one.rule]
        told = {
            "format": 1, "rule": one.rule, "gold": gold.path.name, "sha256": gold.sha256, "sort": one.gold,
            "rows": one.rows, "unmeasured": one.unmeasured, "figures": [f._asdict() for f in one.figures],
            "notes": one.notes, "options": options._asdict(), "settings": rule.identity(),
            "models": [engine.identity() for engine in judges_of([rule], plan.teacher)],
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        files.append(folder / f"calibrated-{digest([one.rule, str(gold.path.resolve())], 8)}.json")
        write_atomic(files[-1], pretty(told))
    return files


def kept(run: Run) -> tuple[list[Calibrated], list[str]]:
    """What is known, by rule and gold file; and files that cannot be read."""
    found, problems = [], []
    for file in sorted(run.path.glob(FILES)):
        try:
            found.append(Calibrated.model_validate(orjson.loads(file.read_bytes())))
        except (ValidationError, orjson.JSONDecodeError):
            problems.append(f"review/{file.name} cannot be read: delete it and calibrate again")
    return sorted(found, key=lambda one: (one.rule, one.gold, one.made)), problems
