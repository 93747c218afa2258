"""The form an answer was asked for: JSON, a schema, a pattern, whole code and maths, a final answer that is right."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import regex
from pydantic import Field, field_validator, model_validator

from filters.balance import open_brackets, open_maths
from filters.base import TextFilter
from filters.final import WHAT, final_of
from filters.final import Check as Final
from filters.markup import blocks
from pipeline.component import PlanFile
from pipeline.records import Check, Record

MOST_SHOWN = 200


class Format(TextFilter):
    """Drops answers that are not in the form that was asked for; without settings, those with open code or maths."""

    kind: Literal["format"] = "format"
    balanced: Annotated[
        tuple[Literal["code", "maths"], ...],
        Field(description="code: fences close, and brackets in fenced code; maths: LaTeX delimiters and environments"),
    ] = ("code", "maths")
    parses: Annotated[Literal["json"] | None, Field(description="the text, or the one code block in it, is JSON")] = (
        None
    )
    json_schema: Annotated[
        dict[str, Any] | PlanFile | None, Field(description="a JSON Schema, here or in a file, that its JSON matches")
    ] = None
    pattern: Annotated[
        str | None, Field(description="a regular expression found in it; anchor with ^ and $ to match the whole")
    ] = None
    pattern_seconds: Annotated[float, Field(gt=0, le=60, description="how long the pattern may take on a text")] = 1.0
    final: Annotated[
        Final | None, Field(description="how its final answer is compared with the gold one: number, choice, exact")
    ] = None
    gold_field: Annotated[str, Field(description="the field of meta that holds the gold answer")] = "answer"

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            regex.compile(value or "")
        except regex.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: dict[str, Any] | Path | None) -> dict[str, Any] | Path | None:
        if value is not None:
            _validator(value)
        return value

    @model_validator(mode="after")
    def _answers_are_verified(self) -> "Format":
        if self.final is not None and self.on != "answer":
            raise ValueError("final compares answers: leave `on` out")
        return self

    def judge(self, record: Record) -> Check:
        """How many faults the text has; then whether its final answer is the gold one."""
        check = super().judge(record)
        return check if not check.passed or self.final is None else self._verified(record, self.final)

    def measure(self, text: str) -> Check:
        """How many faults the text's form has; the reason is the first's."""
        faults = [*self._open(text), *self._unread(text), *self._unmatched(text)]
        if faults:
            return self.no(len(faults), *faults[0])
        return self.yes(0)

    def _open(self, text: str) -> list[tuple[str, str]]:
        faults = []
        if "code" in self.balanced:
            fenced = blocks(text)
            if fenced and not fenced[-1].closed:
                faults.append(("unclosed_fence", text[fenced[-1].start :][:60]))
            faults += [
                ("unbalanced_code", where) for block in fenced if block.closed and (where := open_brackets(block))
            ]
        if "maths" in self.balanced and (where := open_maths(text)):
            faults.append(("unbalanced_maths", where))
        return faults

    def _unread(self, text: str) -> list[tuple[str, str]]:
        if self.parses is None and self._schema_validator is None:
            return []
        try:
            value = orjson.loads(_bare(text))
        except orjson.JSONDecodeError as error:
            return [("not_json", f"{error}: {text.strip()[:60]!r}")]
        wrong = next(self._schema_validator.iter_errors(value), None) if self._schema_validator is not None else None
        if wrong is not None:
            return [("schema_mismatch", f"{wrong.json_path}: {wrong.message[:MOST_SHOWN]}")]
        return []

    def _unmatched(self, text: str) -> list[tuple[str, str]]:
        if self.pattern is None:
            return []
        try:
            found = self._pattern.search(text, timeout=self.pattern_seconds)
        except TimeoutError:
            return [("pattern_timeout", f"{self.pattern!r} took over {self.pattern_seconds:g} s")]
        return [] if found else [("pattern_mismatch", f"nothing matches {self.pattern!r}")]

    def _verified(self, record: Record, how: Final) -> Check:
        """1 where the final answer is the gold one, 0 where it is another."""
        value = record.meta.get(self.gold_field)
        gold = final_of(how, str(value)) if isinstance(value, str | int | float) else ""
        if not gold:
            return self.no(0, "no_gold_answer", f"meta.{self.gold_field} holds no {WHAT[how]}")
        found = final_of(how, record.answer)
        if found == gold:
            return self.yes(1)
        said = f"it said {found[:80]}" if found else f"it holds no {WHAT[how]}"
        return self.no(0, "wrong_answer", f"{said}, the gold answer is {gold[:80]}")

    @cached_property
    def _pattern(self) -> "regex.Pattern[str]":
        return regex.compile(self.pattern or "", regex.MULTILINE)

    @cached_property
    def _schema_validator(self) -> Any:
        return None if self.json_schema is None else _validator(self.json_schema)


def _validator(given: dict[str, Any] | Path) -> Any:
    """What checks JSON against a schema; raises ValueError for one that is none, or refers to what it does not hold."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    schema = _schema(given)
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"no JSON Schema: {error.message} at {error.json_path}") from error
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("", resource).crawl()  # an empty one fetches nothing
    resolver = registry.resolver_with_root(resource)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise ValueError(f"the schema refers to {reference!r}, which it does not hold") from error
    return validator_for(schema)(schema, registry=registry)


def _references(schema: Any) -> Iterator[str]:
    """Every `$ref` of a schema."""
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _schema(value: dict[str, Any] | Path) -> Any:
    """A schema as it stands in the plan, or in a file."""
    if isinstance(value, dict):
        return value
    try:
        return orjson.loads(value.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{value} is not JSON: {error}") from error


def _bare(text: str) -> str:
    """The text, or what its only code block holds."""
    fenced = blocks(text)
    return fenced[0].code if len(fenced) == 1 else text
