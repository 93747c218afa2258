"""kinds: every component with its settings and help, straight from the classes."""

import types
import typing
from typing import Any, get_args, get_origin

from filters import AnyFilter
from pipeline.component import Component, is_knob, kind_of, members
from pipeline.engines import AnyEngine
from pipeline.errors import UsageError
from stages.objectives import AnyObjective
from stages.schedules import AnySchedule
from stages.selectors import AnySelector
from stages.sources import AnySource
from stages.tasks import AnyTask

FAMILIES: dict[str, Any] = {
    "source": AnySource,
    "engine": AnyEngine,
    "task": AnyTask,
    "filter": AnyFilter,
    "selector": AnySelector,
    "objective": AnyObjective,
    "schedule": AnySchedule,
}


def describe(family: str = "") -> list[dict[str, Any]]:
    """Family, kind, help and settings of every component. Raises UsageError for an unknown family."""
    from pipeline.config import nearest

    if family and family not in FAMILIES:
        raise UsageError(f"no family {family!r}{nearest(family, list(FAMILIES))}")
    found = []
    for name, union in FAMILIES.items():
        if family in ("", name):
            for component in sorted(members(union), key=kind_of):
                settings = [_setting(component, field) for field in component.model_fields if field != "kind"]
                found.append(
                    {"family": name, "kind": kind_of(component), "help": component.help(), "settings": settings}
                )
    return found


def _setting(component: type[Component], name: str) -> dict[str, Any]:
    field = component.model_fields[name]
    default = "required" if field.is_required() else field.get_default(call_default_factory=True)
    return {
        "name": field.alias or name,
        "type": type_name(field.annotation),
        "default": str(default) if isinstance(default, Component) else default,
        "help": field.description or "",
        "speed_only": is_knob(field),
    }


def type_name(annotation: Any) -> str:
    """An annotation as a person writes it."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return type_name(args[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(type_name(a) for a in args))
    if origin is typing.Literal:
        return " | ".join(map(str, args))
    if annotation is type(None):
        return "none"
    if origin is not None:
        inside = ", ".join(type_name(a) for a in args if a is not Ellipsis)
        return f"{origin.__name__}[{inside}]" if inside else str(origin.__name__)
    return getattr(annotation, "__name__", str(annotation))
