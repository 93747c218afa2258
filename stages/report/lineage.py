"""Where everything came from: versions, what they were made of, and settings that are not the defaults."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from pipeline.component import Component
from pipeline.errors import PipelineError
from pipeline.models import find
from pipeline.store import Input, Version
from stages.report.base import Section, Source, Table, clock, cut, discreet, model_name

TITLE = "Lineage"
LONGEST = 160  # characters of a setting


def section(source: Source) -> Section:
    """A line for every current version; then the plan's settings, stage by stage."""
    rows = [_line(source, version) for version in source.versions()]
    prints = [[v.manifest.stage, v.manifest.fingerprint] for v in source.versions()]
    table = Table(["stage", "version", "made from", "state", "finished (UTC)"], rows)
    settings = {name: _settings(part, source.file.parent) for name, part in _parts(source)}
    data = {"table": table, "prints": Table(["stage", "fingerprint"], prints), "settings": settings}
    return Section("lineage", TITLE, data | {"models": _models(source)})


def _line(source: Source, version: Version) -> list[str]:
    made = version.manifest
    inputs = "; ".join(map(_read, made.inputs)) or "seeds"
    return [made.stage, version.name, inputs, _state(source, made.stage), clock(made.finished)]


def _parts(source: Source) -> Iterator[tuple[str, Component]]:
    if source.plan.teacher is not None:
        yield "teacher", source.plan.teacher
    yield from source.plan.stages().items()


def _read(given: Input) -> str:
    """A version of another stage, or a file by its name alone."""
    return f"file {Path(given.version).name}" if given.stage == "file" else f"{given.stage} {given.version}"


def _state(source: Source, stage: str) -> str:
    step = source.steps.get(stage)
    if step is None:
        return "not in the plan any more"
    return "as the plan says" if step.state == "done" else discreet(f"{step.state}: {step.why}", source.file.parent)


def _settings(part: Component, folder: Path) -> list[tuple[str, str]]:
    """Every setting that is not its default, by place; of a component its kind, too."""
    return [(place, cut(_shown(value, folder), LONGEST)) for place, value in _changed(part)]


def _changed(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    inner: list[tuple[str, Any]] = []
    match value:
        case BaseModel():
            fields = type(value).model_fields.items()
            given = [
                (name, getattr(value, name), field.get_default(call_default_factory=True)) for name, field in fields
            ]
            inner = [(name, now) for name, now, default in given if name == "kind" or now != default]
        case dict():
            inner = list(value.items())
        case list() | tuple() if any(isinstance(one, BaseModel | dict) for one in value):
            inner = [(str(n), one) for n, one in enumerate(value)]
    if not inner:
        yield place, value
    for name, one in inner:
        yield from _changed(one, f"{place}.{name}".removeprefix("."))


def _shown(value: Any, folder: Path) -> str:
    """A value; of files inside the plan's folder their place in it, of other files and folders the name alone."""
    match value:
        case Path():
            return value.relative_to(folder).as_posix() if value.is_relative_to(folder) else value.name
        case str():
            return discreet(model_name(value), folder)
        case list() | tuple():
            return ", ".join(_shown(inner, folder) for inner in value)
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _models(source: Source) -> Table:
    """All models that the plan names, with the content that was used."""
    rows = []
    for name, stage in source.plan.stages().items():
        try:
            named = list(dict.fromkeys(stage.models(source.plan.teacher)))
        except PipelineError:
            continue
        for model, revision in named:
            try:
                found = find(model, revision)
                rows.append([name, model_name(model), found.revision, found.licence or "says none"])
            except PipelineError:
                rows.append([name, model_name(model), revision or "not on this machine", ""])
    return Table(["stage", "model", "revision", "licence"], rows)
