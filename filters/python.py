"""The user's own function as a rule: what no setting can say.

The function gets a `Record` (`.prompt`, `.answer`, `.messages`, `.meta`, ...) and returns a bool, a number, a dict with
any of `value`, `passed`, `reason` and `detail`, or a tuple of `passed`, `reason` and, if wanted, `detail`.
"""

import ast
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import regex
from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from filters.base import Filter
from pipeline.component import file_digest
from pipeline.errors import PipelineError
from pipeline.records import Check, Record

KEYS = ("value", "passed", "reason", "detail")
SLUG = regex.compile(r"[a-z][a-z0-9_]*")


class _Place(NamedTuple):
    """A function, and the file it stands in."""

    file: Path
    function: str


def _found(value: str, info: ValidationInfo) -> str:
    """The function with the full path of its file, or as it is where a module has it. Runs nothing of it."""
    owner, colon, function = value.rpartition(":")
    if not colon or not owner or not function.isidentifier():
        raise ValueError(f"{value!r}: write it as module:function or file.py:function")
    if owner.endswith(".py"):
        folder = (info.context or {}).get("folder", Path())
        owner = str((folder / Path(owner).expanduser()).resolve())
    place = _place(f"{owner}:{function}")
    if not place.file.is_file():
        raise ValueError(f"no such file: {place.file}")
    try:
        tree = ast.parse(place.file.read_bytes())
    except SyntaxError as error:
        raise ValueError(f"{place.file}:{error.lineno}: {error.msg}") from error
    names = _names(tree)
    if function not in names:
        raise ValueError(f"{place.file} has no function {function!r}; it has {', '.join(sorted(names)) or 'none'}")
    return f"{owner}:{function}"


def _names(tree: ast.Module) -> set[str]:
    """What a module's own lines may name a function: definitions, assignments, imports."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    return names


def _place(value: str) -> _Place:
    owner, _, function = value.rpartition(":")
    if owner.endswith(".py"):
        return _Place(Path(owner), function)
    try:
        spec = importlib.util.find_spec(owner)
    except (ImportError, ValueError) as error:
        raise ValueError(f"no module {owner}: {error}") from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ValueError(f"no module {owner} with Python source; a file is named as file.py:function")
    return _Place(Path(spec.origin), function)


class Python(Filter):
    """Asks a function of yours; it runs with the rights of this process, so read it before you run another's plan.

    True passes, False drops (`rejected`); a number is held against `min_value` and `max_value`. The file counts by its
    content, what it imports does not. An exception in it stops the run and drops nothing.
    """

    bounds: ClassVar = (("min_value", "min"), ("max_value", "max"))

    kind: Literal["python"] = "python"
    function: Annotated[
        str, AfterValidator(_found), Field(description="module:function, or file.py:function beside the plan")
    ]
    min_value: Annotated[float | None, Field(description="drop smaller numbers")] = None
    max_value: Annotated[float | None, Field(description="drop larger numbers")] = None

    @model_validator(mode="after")
    def _ordered(self) -> "Python":
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value:g} is over max_value {self.max_value:g}")
        return self

    def identity(self) -> dict[str, Any]:
        """The file by its content, wherever it lies."""
        place = _place(self.function)
        return super().identity() | {"function": place.function, "sha256": file_digest(place.file)}

    def prepare(self) -> None:
        """Run the function's file. Raises PipelineError with its line where that fails."""
        _loaded(self.function)

    def judge(self, record: Record) -> Check:
        """What the function says of the record. Raises PipelineError where it fails or says nothing usable."""
        function = _loaded(self.function)
        try:
            said = function(record)
        except Exception as error:
            raise PipelineError(
                f"{_line_of(error, self.function)} failed on the record {record.id}: {type(error).__name__}: {error}",
                hint="let the function handle such records; `pipeline show` prints one",
            ) from error
        return self._check(said, record)

    def _check(self, said: Any, record: Record) -> Check:
        said = said.item() if hasattr(said, "item") else said  # a scalar of numpy or torch
        match said:
            case bool():
                return self.yes(1) if said else self.no(0, "rejected", f"{self._name()} said no")
            case int() | float() if math.isfinite(said):
                return self._bounded(float(said), "")
            case (bool() as passed, str() as reason) | (bool() as passed, str() as reason, str()):
                detail = said[2] if len(said) > 2 else ""
                return self._verdict({"passed": passed, "reason": "" if passed else reason, "detail": detail}, record)
            case dict() if said and said.keys() <= set(KEYS):
                return self._verdict(said, record)
        raise self._unusable(said, record)

    def _verdict(self, said: dict[str, Any], record: Record) -> Check:
        passed, value = said.get("passed", True), said.get("value")
        reason, detail = said.get("reason") or "rejected", said.get("detail") or ""
        value = float(passed) if value is None else value
        usable = isinstance(passed, bool) and isinstance(value, int | float) and math.isfinite(value)
        if not (usable and isinstance(detail, str) and isinstance(reason, str) and SLUG.fullmatch(reason)):
            raise self._unusable(said, record)
        if "passed" in said:
            return self.yes(float(value), detail) if passed else self.no(float(value), reason, detail)
        return self._bounded(float(value), detail)

    def _bounded(self, value: float, detail: str) -> Check:
        if self.min_value is not None and value < self.min_value:
            return self.no(value, "low_value", detail or f"{value:g}, under {self.min_value:g}")
        if self.max_value is not None and value > self.max_value:
            return self.no(value, "high_value", detail or f"{value:g}, over {self.max_value:g}")
        return self.yes(value, detail)

    def _unusable(self, said: Any, record: Record) -> PipelineError:
        return PipelineError(
            f"{self.function} returned {said!r:.200} for the record {record.id}",
            hint="return a bool, a finite number, a dict with some of value, passed, reason and detail, or "
            "(passed, reason, detail); a reason is a snake_case slug",
        )

    def _name(self) -> str:
        return self.function.rpartition(":")[2]


@cache
def _loaded(value: str) -> Callable[[Record], Any]:
    """The function; its file is run once."""
    place = _place(value)
    owner = value.rpartition(":")[0]
    try:
        module = _module(place.file) if owner.endswith(".py") else importlib.import_module(owner)
    except Exception as error:
        raise PipelineError(f"{_line_of(error, value)}: {type(error).__name__}: {error}") from error
    function = getattr(module, place.function)
    if not callable(function):
        raise PipelineError(f"{value} is no function but {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def _module(file: Path) -> ModuleType:
    name = f"rule_{file.stem}_{file_digest(file)[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "it ends in .py"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _line_of(error: Exception, value: str) -> str:
    """`file:line in function` of the innermost line in the user's own file."""
    file = str(_place(value).file)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    return f"{file}:{own[-1].lineno} in {own[-1].name}" if own else value
