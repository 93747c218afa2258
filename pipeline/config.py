"""Plan files: YAML in, a validated model out, every problem at once with its line and the nearest name."""

import difflib
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import orjson
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import UsageError

M = TypeVar("M", bound=BaseModel)
Place = tuple[str | int, ...]
Override = str | tuple[str, Any]
"""`a.b.0.c=value` with the value as YAML, or the place and the value."""
BOOL = "tag:yaml.org,2002:bool"
DEPTH = 64  # levels of a plan; deeper is an alias of itself


class Loader(yaml.SafeLoader):
    """Safe YAML in which `true` and `false` alone are truths, as in YAML 1.2: `on: both` has the key "on".

    Whole numbers as keys are text, as in JSON: `max_top: {2: 0.3}`.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping of a plan."""
        found = super().construct_mapping(node, deep)
        return {str(key) if type(key) is int else key: value for key, value in found.items()}


Loader.yaml_constructors = dict(yaml.SafeLoader.yaml_constructors)  # other libraries change SafeLoader's own
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != BOOL]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def load(model: type[M], path: Path, overrides: Sequence[Override] = ()) -> M:
    """Read the YAML file at `path`, apply overrides and validate it as `model`.

    Raises UsageError that lists every problem as `file:line place: what`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "`pipeline init NAME` writes a plan to start from" if not path.exists() else ""
        raise UsageError(f"cannot read the plan {path}: {_reason(error)}", hint=hint) from error
    try:
        root = yaml.compose(text, Loader=Loader)
        data = yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if (place := _no_json(data)) is not None:
        raise UsageError(
            f"{path} {_dotted(place)}: JSON has no form for this value, and every setting is written as JSON"
        )
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds no settings: a plan is a mapping such as `name: stories`")
    lines: dict[Place, int] = {}
    doubled = list(_index(root, (), lines))
    for override in overrides:
        override_value(data, override)
    problems = [f"{path}:{line} {_dotted(place)}: given twice" for place, line in doubled]
    try:
        plan = model.model_validate(data, context={"folder": path.resolve().parent})
    except ValidationError as error:
        problems += [_describe(e, model, data, lines, path) for e in error.errors()]
        raise UsageError(_listed(path, problems)) from error
    if problems:
        raise UsageError(_listed(path, problems))
    return plan


def _no_json(value: Any, place: Place = ()) -> Place | None:
    """Where a value lies that cannot be written as JSON; an alias of itself is one."""
    if len(place) > DEPTH:
        return place[:4]
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        if isinstance(value, dict) and any(not isinstance(key, str) for key in value):
            return place
        return next((bad for key, inner in items if (bad := _no_json(inner, (*place, key))) is not None), None)
    try:
        orjson.dumps(value)
    except TypeError:
        return place
    return None


def override_value(data: dict[str, Any], override: Override) -> None:
    """Set one dotted place of a plan: `filter.rules.0.min_chars=300`, the value as YAML, or place and value."""
    if isinstance(override, tuple):
        (dotted, value), override = override, override[0]
    else:
        dotted, equals, text = override.partition("=")
        if not equals or not dotted:
            raise UsageError(f"--set {override}: write it as place=value, for example --set seed=7")
        try:
            value = yaml.load(text, Loader)
        except (yaml.YAMLError, ValueError) as error:
            raise UsageError(f"--set {override}: the value is not YAML") from error
    node: Any = data
    *parents, last = dotted.split(".")
    for depth, part in enumerate([*parents, last]):
        place, final = ".".join(dotted.split(".")[: depth + 1]), depth == len(parents)
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                raise UsageError(f"--set {override}: {place} is not one of 0 to {len(node) - 1}")
            if final:
                node[int(part)] = value
            else:
                node = node[int(part)]
        elif isinstance(node, dict):
            if final:
                node[last] = value
            else:
                node = node.setdefault(part, {})
        else:
            raise UsageError(f"--set {override}: {place.rpartition('.')[0]} is a value, not a section")


def nearest(name: str, names: Sequence[str]) -> str:
    """ "; did you mean X?" or the list of valid names."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; valid here: {', '.join(names)}" if names else ""


def _listed(path: Path, problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} problems in {path}\n" + "\n".join(f"  {p}" for p in problems)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _index(node: yaml.Node | None, place: Place, lines: dict[Place, int]) -> typing.Iterator[tuple[Place, int]]:
    """Fill `lines` with the line of every place; yield the keys that are given twice."""
    if node is None:
        return
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            child = (*place, str(key.value))
            lines[child] = key.start_mark.line + 1
            if key.value in seen:
                yield child, lines[child]
            seen.add(key.value)
            yield from _index(value, child, lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _index(value, (*place, i), lines)


def _dotted(place: Place) -> str:
    return ".".join(str(p) for p in place) or "the plan"


def _describe(error: ErrorDetails, model: Any, data: Any, lines: dict[Place, int], path: Path) -> str:
    place, owner = _locate(error["loc"], model, data, whole=error["type"] == "extra_forbidden")
    known = next((lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines), 1)
    return f"{path}:{known} {_dotted(place)}: {_message(error, owner, str(place[-1]) if place else '')}"


def _message(error: ErrorDetails, owner: Any, name: str) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            fields = [f.alias or n for n, f in owner.model_fields.items()] if owner is not None else []
            return f"unknown setting{nearest(name, fields)}"
        case "missing":
            return "is required"
        case "union_tag_not_found":
            return f"needs a `kind`{nearest('', _tags(context.get('expected_tags', '')))}"
        case "union_tag_invalid":
            tag = str(context.get("tag", ""))
            return f"unknown kind {tag!r}{nearest(tag, _tags(context.get('expected_tags', '')))}"
        case "value_error":
            return str(context.get("error", error["msg"]))
    return f"{error['msg'][:1].lower()}{error['msg'][1:]} (it is {_shown(error['input'])})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _tags(expected: Any) -> list[str]:
    return [t.strip().strip("'") for t in str(expected).split(",") if t.strip()]


def _locate(loc: Place, model: Any, data: Any, *, whole: bool) -> tuple[Place, Any]:
    """The place of an error in the file, without pydantic's union tags, and the model that owns it."""
    place: Place = ()
    owner: Any = model if _is_model(model) else None
    annotation, last = model, len(loc) - 1
    for i, part in enumerate(loc):
        choices = [m for m in _options(annotation) if _is_model(m)]
        tagged = [m for m in choices if "kind" in m.model_fields and m.model_fields["kind"].default == part]
        is_key = (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int))
        if tagged and len(choices) > 1 and not (is_key and i == last):
            annotation, owner = tagged[0], tagged[0]
            continue
        if not is_key and i != last:
            continue  # a tag of pydantic's own (function names, union members)
        place = (*place, part)
        owner = choices[0] if len(choices) == 1 else owner if whole and i == last else None
        annotation = _child(choices[0] if len(choices) == 1 else annotation, part)
        data = data[part] if is_key else None
    return place, owner


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _options(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, unions and Annotated flattened."""
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        return _options(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [o for arg in get_args(annotation) for o in _options(arg)]
    return [annotation]


def _child(annotation: Any, part: str | int) -> Any:
    """The annotation of a field or an item."""
    for option in _options(annotation):
        if _is_model(option) and part in option.model_fields:
            field = option.model_fields[part]
            return typing.Annotated[field.annotation, ...]
        if get_origin(option) in (list, tuple, dict):
            return get_args(option)[-1]
    return None
