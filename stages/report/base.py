"""What the parts of a report share: where they read, what one of them is, and figures in a few letters."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.models import looks_local
from pipeline.run import Run
from pipeline.store import Version
from stages.flow import Step
from stages.plan import STAGES, Plan

SHOWN = 1200  # characters of a text that is shown
USER = re.compile(r"(?<=://)[^/\s@\"']+@")  # a name and a password in an address
BYTES = ("disk", "memory", "bytes")  # names of figures that count bytes


class Source(NamedTuple):
    """A run and the plan it follows."""

    plan: Plan
    run: Run
    file: Path
    """the plan's"""
    overrides: tuple[str, ...]
    """`--set` of the command line"""
    steps: dict[str, Step]
    """every stage of the plan"""

    def version(self, stage: str) -> Version | None:
        """The current version; also of a stage that the plan has not any more."""
        return self.steps[stage].version if stage in self.steps else self.run.current(stage)

    def versions(self) -> list[Version]:
        """All current ones, in the order of the stages."""
        return [version for stage in STAGES if (version := self.version(stage)) is not None]


class Section(NamedTuple):
    """One part of the page. Its template is `<key>.html.j2`; `missing` says why there is nothing to show."""

    key: str
    title: str
    data: Mapping[str, Any] = {}
    missing: str = ""


class Estimate(NamedTuple):
    """A figure as text, and the ends of its interval where it has one."""

    value: str
    between: str = ""


class Table(NamedTuple):
    """Rows of cells, each a text or an estimate; `right` names the columns of figures."""

    head: list[str]
    rows: list[list[str | Estimate]] | list[list[str]]
    right: tuple[str, ...] = ()


def not_run(key: str, title: str, source: Source, stage: str) -> Section:
    """The section of a stage that has no version."""
    if stage not in source.plan.stages():
        return Section(key, title, missing=f"The plan has no section {stage}.")
    return Section(key, title, missing=f"{stage} has not been run.")


def figure(value: Any, name: str = "") -> str:
    """A number in four digits that matter; bytes and parameters, where its name says so, in millions."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "without end" if value > 0 else "undefined"
    if name.endswith(BYTES) and value >= 2**20:
        return f"{value / 2**20:,.0f} MiB"
    if name.endswith("parameters") and value >= 1e6:
        return f"{value / 1e6:,.1f} M"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def clock(moment: str) -> str:
    """A manifest's moment (ISO 8601, UTC) as people read it."""
    return moment.replace("T", " ").removesuffix("+00:00")


def words(name: str) -> str:
    """A key as people read it."""
    return name.replace("_", " ").strip()


def model_name(model: str) -> str:
    """A model's name without the folder it lies in here."""
    return Path(model).name if looks_local(model) else model


def discreet(text: str, folder: Path) -> str:
    """A text without names and passwords of addresses, and without the place where the plan's folder lies."""
    return USER.sub("…@", text).replace(f"{folder}/", "")


def cut(text: str, longest: int = SHOWN) -> str:
    """The beginning of a text that is too long, whole lines kept as they are."""
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text):,} characters)"
