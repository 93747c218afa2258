"""The one extension pattern: a component is a frozen pydantic model.

Its fields are its settings, one or two verbs do its work, its docstring is its help. A family is a
discriminated union over `kind`; registering a component is one line there. Settings that change speed
but not output are marked with `Knob()` and stay out of every fingerprint.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo
from pydantic.fields import FieldInfo


class Knob:
    """Marks a setting that changes speed or memory only: `batch_size: Annotated[int, Knob()] = 32`."""


class Component(BaseModel):
    """Base of every source, engine, task, filter, selector, objective and stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def identity(self) -> dict[str, Any]:
        """The settings that shape the output, files replaced by the digest of their content."""
        fields = type(self).model_fields
        return {n: identify(getattr(self, n)) for n, f in fields.items() if not is_knob(f)}

    @classmethod
    def help(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().split("\n")[0]


def is_knob(field: FieldInfo) -> bool:
    """Whether a setting is marked with `Knob`."""
    return any(isinstance(mark, Knob) for mark in field.metadata)


def identify(value: Any) -> Any:
    """`value` as plain JSON that changes exactly when the output may change."""
    match value:
        case Component():
            return value.identity()
        case BaseModel():
            return value.model_dump(mode="json")
        case Path():
            return {"sha256": file_digest(value)}
        case dict():
            return {str(k): identify(v) for k, v in value.items()}
        case list() | tuple():
            return [identify(v) for v in value]
    return value


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_plan_folder(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("folder", Path())
    path = (base / path.expanduser()).resolve()
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    return path


PlanFile = Annotated[Path, AfterValidator(_in_plan_folder)]
"""A file named in a plan: relative to the plan's folder, must exist, counts by its content."""


def members(union: Any) -> Iterator[type[Component]]:
    """The component classes of a family's (annotated) discriminated union."""
    for arg in get_args(union):
        if isinstance(arg, type) and issubclass(arg, Component):
            yield arg
        elif get_args(arg):
            yield from members(arg)
    if isinstance(union, type) and issubclass(union, Component):
        yield union


def kind_of(component: type[Component]) -> str:
    """The name a plan uses for a component."""
    return str(component.model_fields["kind"].default)
