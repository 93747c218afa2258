"""How to make it all again: commands, packages, machine, and the plan itself."""

import shlex
from typing import Any

from stages.report.base import Section, Source, Table, clock, cut, discreet

TITLE = "How to reproduce"
LONGEST = 20_000  # characters of the plan


def section(source: Source) -> Section:
    """Commands, then the environment of every stage, and the plan."""
    versions = source.versions()
    packages: dict[str, dict[str, str]] = {}
    rows = []
    for version in versions:
        told, stage = version.manifest.environment, version.manifest.stage
        for name, number in told.get("packages", {}).items():
            packages.setdefault(name, {})[stage] = number
        rows.append([stage, told.get("git", ""), told.get("platform", ""), clock(version.manifest.started)])
    data: dict[str, Any] = {
        "commands": _commands(source, next((row[1] for row in reversed(rows) if row[1]), "")),
        "machines": Table(["stage", "git revision", "platform", "started (UTC)"], rows),
        "packages": Table(["package", "version"], [[name, _numbers(by)] for name, by in packages.items()]),
        "plan": discreet(cut(source.file.read_text(encoding="utf-8"), LONGEST), source.file.parent),
        "name": source.file.name,
    }
    return Section("reproduce", TITLE, data)


def _commands(source: Source, revision: str) -> list[str]:
    """What to type; `+` behind a revision stands for changes that no revision holds."""
    checkout = f"git checkout {revision.removesuffix('+')}" if revision else ""
    if revision.endswith("+"):
        checkout += "    # and changes that no revision holds"
    rest = [shlex.quote(source.file.name), *(f"--set {shlex.quote(setting)}" for setting in source.overrides)]
    commands = [" ".join(["pipeline", command, *rest]) for command in ("run", "report")]
    return [checkout, *commands] if checkout else commands


def _numbers(by: dict[str, str]) -> str:
    """One number; or each with its stages, where they differ."""
    stages: dict[str, list[str]] = {}
    for stage, number in by.items():
        stages.setdefault(number, []).append(stage)
    return next(iter(stages)) if len(stages) == 1 else "; ".join(f"{n} ({', '.join(of)})" for n, of in stages.items())
