"""A plan that travels: its text with the files it names brought along, so that it reads the same elsewhere.

A file that lies in the plan's folder keeps its place. One that does not goes to `carried/`, under the start of its
digest and its own name, and the plan's text says so; nothing else of the text changes.
"""

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import orjson
import yaml
from pydantic import BaseModel

import filters
import prompts
from filters.python import Python
from pipeline.component import file_digest
from pipeline.config import Loader
from pipeline.errors import UsageError
from pipeline.records import digest
from stages.plan import Plan
from stages.replay import Replay
from stages.sources.documents import listed

CARRIED, PLAN = "carried", "plan.yaml"
PACKAGES = tuple(Path(str(package.__file__)).resolve().parent for package in (filters, prompts))
BEFORE = re.compile(r"(?:[&!]\S*\s+)*")  # an anchor or a tag before a value

Place = tuple[str | int, ...]


class Carried(NamedTuple):
    """A plan's new text, the files that go with it by their names in its new folder, and what cannot go along."""

    text: str
    files: dict[str, Path]
    notes: list[str]


class _Said(str):
    """A text of a plan that knows where it stands: from character `start` up to `end`."""

    start: int
    end: int


class _Marking(Loader):
    """Reads plans with every text marked."""


def _said(loader: _Marking, node: yaml.ScalarNode) -> _Said:
    said = _Said(loader.construct_scalar(node))
    said.start, said.end = node.start_mark.index, node.end_mark.index
    return said


_Marking.add_constructor("tag:yaml.org,2002:str", _said)


def carried(path: Path, plan: Plan) -> Carried:
    """The plan at `path`, which was read as `plan`. Raises UsageError where its text cannot be changed as needed."""
    text = path.read_text(encoding="utf-8")
    data = yaml.load(text, _Marking)
    files: dict[str, Path] = {}
    notes: list[str] = []
    edits: dict[tuple[int, int], str] = {}
    wanted = copy.deepcopy(data)
    for place, value in _named(plan, ()):
        said = _at(data, place)
        if isinstance(value, Path) and _bundled(value, said, path.parent):
            continue
        if said is None:
            raise UsageError(f"{path}: cannot see where the plan names {value}", hint="write it out in the plan")
        if isinstance(value, Python) and not value.function.rpartition(":")[0].endswith(".py"):
            notes.append(f"the module of {value.function} is not in the bundle: install it on the other machine, too")
            continue
        new, along = _along(value, said)
        for name, file in along.items():
            if files.setdefault(name, file) != file and file_digest(files[name]) != file_digest(file):
                raise UsageError(f"{path}: {files[name]} and {file} would both be {name}", hint="rename one of them")
        if new != said:
            edits[said.start, said.end] = new
            _put(wanted, place, new)
    return Carried(_edited(path, text, edits, wanted), files, notes)


def code(plan: Plan) -> list[str]:
    """The functions of the user's own that a plan runs."""
    return [value.function for _, value in _named(plan, ()) if isinstance(value, Python)]


def _named(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Everything in a plan that stands for files, with its place: paths, functions of one's own, earlier runs."""
    match value:
        case Python():
            yield (*place, "function"), value
        case Path():
            yield place, value
        case BaseModel():
            if isinstance(value, Replay):
                yield (*place, "source"), value
            for name, field in type(value).model_fields.items():
                yield from _named(getattr(value, name), (*place, field.alias or name))
        case dict():
            for name, inner in value.items():
                yield from _named(inner, (*place, name))
        case list() | tuple():
            for number, inner in enumerate(value):
                yield from _named(inner, (*place, number))


def _at(data: Any, place: Place) -> _Said | None:
    """The text at a place of a plan; None where the plan leaves it out."""
    for part in place:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data if isinstance(data, _Said) else None


def _put(data: Any, place: Place, new: str) -> None:
    for part in place[:-1]:
        data = data[part]
    data[place[-1]] = new


def _bundled(file: Path, said: str | None, folder: Path) -> bool:
    """Whether a file comes with the package and is not named by its path."""
    ours = any(file.is_relative_to(package) for package in PACKAGES)
    return ours and (said is None or (folder / said).resolve() != file)


def _along(value: Any, said: str) -> tuple[str, dict[str, Path]]:
    """What the plan says elsewhere, and the files that lie there then."""
    if isinstance(value, Python):
        owner, _, function = value.function.rpartition(":")
        new, files = _file(Path(owner), said.rpartition(":")[0])
        return f"{new}:{function}", files
    if isinstance(value, Replay):
        version = value.version()
        if version is None:
            return _file(Path(value.source), said)
        for info in (*version.manifest.shards, *version.manifest.files):
            version.verify(info)
        new = f"{CARRIED}/{version.manifest.fingerprint[:8]}/{version.name}"
        names = ["manifest.json", *(i.file for i in (*version.manifest.shards, *version.manifest.files))]
        return new, {f"{new}/{name}": version.path / name for name in names}
    return _file(value, said) if value.is_file() else _documents(value, said)


def _file(file: Path, said: str) -> tuple[str, dict[str, Path]]:
    name = os.path.normpath(said)
    if _inside(said) and PurePosixPath(name).name == file.name and name != PLAN:
        return said, {PurePosixPath(name).as_posix(): file}
    new = f"{CARRIED}/{file_digest(file)[:8]}/{file.name}"
    return new, {new: file}


def _documents(path: Path, said: str) -> tuple[str, dict[str, Path]]:
    """A folder of documents, or a glob; what is no document stays here."""
    found = listed(path)
    folder = found[0].file.parents[len(Path(found[0].name).parts) - 1]
    pattern = path.relative_to(folder).parts
    parts = PurePosixPath(os.path.normpath(said)).parts
    base = PurePosixPath(*parts[: len(parts) - len(pattern)])
    if _inside(said) and base.parts:
        return said, {(base / name).as_posix(): file for file, name in found}
    own = digest([[name, file_digest(file)] for file, name in found], 8)
    base = PurePosixPath(CARRIED, own, folder.name)  # the plan's own folder, too: other files come to lie in it
    return base.joinpath(*pattern).as_posix(), {(base / name).as_posix(): file for file, name in found}


def _inside(said: str) -> bool:
    """Whether a path as the plan says it stays in the plan's folder, and out of where carried files go."""
    parts = PurePosixPath(os.path.normpath(said)).parts
    return not said.startswith(("/", "~")) and parts[:1] not in ((), ("..",), (CARRIED,))


def _edited(path: Path, text: str, edits: dict[tuple[int, int], str], wanted: Any) -> str:
    """The text with its edits; read again, it has to say what is wanted and nothing else."""
    for (start, end), new in sorted(edits.items(), reverse=True):
        old = text[start:end]
        before = BEFORE.match(old)
        head = before.group() if before else ""
        tail = old[len(old.rstrip()) :]
        text = text[:start] + head + orjson.dumps(new).decode() + tail + text[end:]
    if yaml.load(text, Loader) != wanted:
        raise UsageError(
            f"{path}: the places of files cannot be changed without changing something else",
            hint="write every file's path as a plain text of its own, without YAML anchors",
        )
    return text
