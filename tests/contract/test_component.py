"""What holds for every component of every family."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline.component import Component, is_knob, kind_of
from pipeline.config import nearest
from stages import kinds
from stages.kinds import FAMILIES
from tests.contract.families import COMPONENTS, NAMES, example, required

OBVIOUS = {"kind", "model", "revision", "path", "prompt", "recording", "num_train_epochs", "learning_rate",
           "per_device_train_batch_size", "gradient_accumulation_steps", "warmup_ratio", "lr_scheduler_type",
           "lora"}  # fmt: skip

each = pytest.mark.parametrize(("family", "component"), COMPONENTS, ids=NAMES)


@each
def test_it_says_what_it_is(family: str, component: type[Component]) -> None:
    """The docstring is its own, and its first line is a sentence that can stand as help."""
    assert "__doc__" in vars(component)
    assert 10 <= len(component.help()) <= 120
    assert component.help().endswith(".")


@each
def test_every_setting_is_explained(family: str, component: type[Component]) -> None:
    """A setting has a description unless its name says it all."""
    assert silent(component) <= OBVIOUS


def silent(component: type[Component]) -> set[str]:
    """The settings without a description."""
    return {name for name, field in component.model_fields.items() if not field.description}


def test_what_is_obvious_is_a_setting() -> None:
    """Each name that needs no description is a setting without one, so that the list outlives none of them."""
    assert set().union(*(silent(component) for _, component in COMPONENTS)) >= OBVIOUS


@each
def test_its_kind_is_a_slug_of_its_own(family: str, component: type[Component]) -> None:
    """`kind` is snake_case, has a default, and no other component of the family has it."""
    kind = kind_of(component)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", kind)
    assert [kind_of(c) for f, c in COMPONENTS if f == family].count(kind) == 1


@each
def test_a_plan_can_name_it(family: str, component: type[Component], tmp_path: Path) -> None:
    """The family's union gives this class for its kind."""
    settings = {"kind": kind_of(component)} | required(kind_of(component), tmp_path)
    assert type(TypeAdapter(FAMILIES[family]).validate_python(settings)) is component


@each
def test_an_unknown_setting_is_refused(family: str, component: type[Component], tmp_path: Path) -> None:
    """A misspelt setting is an error, never ignored."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        component.model_validate(required(kind_of(component), tmp_path) | {"no_such_setting": 1})


@each
def test_it_is_frozen(family: str, component: type[Component], tmp_path: Path) -> None:
    """Settings cannot change after the plan was read."""
    with pytest.raises(ValidationError, match="frozen"):
        example(component, tmp_path).kind = "other"


@each
def test_its_json_schema_accepts_its_example(family: str, component: type[Component], tmp_path: Path) -> None:
    """The schema that editors get is valid and agrees with the class."""
    schema = component.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    written = example(component, tmp_path).model_dump(mode="json", by_alias=True)
    assert checker.is_valid(written)
    assert not checker.is_valid(written | {"no_such_setting": 1})


@each
def test_its_identity_is_stable_json(family: str, component: type[Component], tmp_path: Path) -> None:
    """Two equal components have one identity, which is made of JSON values only."""
    one, other = example(component, tmp_path), example(component, tmp_path)
    assert one.identity() == other.identity()
    _json_only(one.identity())


def _json_only(value: Any) -> None:
    assert isinstance(value, dict | list | str | int | float | None)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _json_only(inner)


@pytest.mark.parametrize(
    ("family", "component"),
    [pair for pair in COMPONENTS if pair[0] != "engine"],
    ids=[name for name in NAMES if not name.startswith("engine")],
)
def test_its_identity_counts_every_setting_but_knobs(family: str, component: type[Component], tmp_path: Path) -> None:
    """Another value of any output setting is another identity; of a knob, the same one."""
    one = example(component, tmp_path)
    for name, field in component.model_fields.items():
        if isinstance(getattr(one, name), BaseModel):
            continue
        other = one.model_copy(update={name: _other(getattr(one, name), tmp_path)})
        assert (other.identity() == one.identity()) == is_knob(field), name


def _other(value: Any, folder: Path) -> Any:
    """A different value of the same sort."""
    match value:
        case bool() | None:
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case Path():
            (folder / "other").write_text("another content")
            return folder / "other"
        case dict():
            return value | {"more": 1}
        case tuple() | list():
            return (*value, "more")
    raise AssertionError(f"no other value for {value!r}")


def test_kinds_describes_every_component() -> None:
    """`pipeline kinds` shows each component once, with all its settings."""
    described = {(row["family"], row["kind"]): row for row in kinds.describe()}
    assert set(described) == {(family, kind_of(component)) for family, component in COMPONENTS}
    for family, component in COMPONENTS:
        row = described[family, kind_of(component)]
        assert row["help"] == component.help()
        fields = {f.alias or n: f for n, f in component.model_fields.items() if n != "kind"}  # by the plan's names
        assert [s["name"] for s in row["settings"]] == list(fields)
        assert all(s["speed_only"] == is_knob(fields[s["name"]]) for s in row["settings"])


def test_the_nearest_name_is_offered() -> None:
    """A near miss gets one suggestion, a far one the list."""
    assert nearest("lenght", ["length", "echo"]) == "; did you mean length?"
    assert nearest("zzz", ["length", "echo"]) == "; valid here: length, echo"
    assert nearest("zzz", []) == ""
