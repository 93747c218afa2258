"""The two line types that travel: a `Seed` goes in, a `Record` comes out.

A record keeps one shape from `generate` to `train`, and one Arrow type: every key is always there, no
value is ever null, no list that holds rows is ever empty, a float is always written as a float. Loaders
that infer a schema from the first rows (`datasets`, Polars) can therefore read any mix of shards. Two
consequences: what filters measure is a list of `checks` rather than an object keyed by name, and `meta`,
the user's own fields, is one JSON text on disk (a dict in Python).
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

Split = Literal["train", "heldout"]
Role = Literal["system", "user", "assistant", "tool"]
Slug = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9_]*)?$")]
Number = Annotated[float, Field(allow_inf_nan=False)]


def digest(value: Any, length: int = 16) -> str:
    """Hex digits of the sha256 of `value` as canonical JSON (sorted keys, UTF-8)."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:length]


class Line(BaseModel):
    """Base of everything that is written as one JSON line: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Line):
    """One turn of a conversation."""

    role: Role
    content: str


class Seed(NamedTuple):
    """What one request grows from: the user's fields, where they were read, and the side of the split."""

    id: str
    fields: Mapping[str, Any]
    where: str
    split: Split = "train"


class Check(Line):
    """What one filter measured on a record. `reason` is a snake_case slug, empty when it passed."""

    name: str
    value: Number = 0.0
    passed: bool = True
    reason: Slug = ""
    detail: str = ""


class MadeBy(Line):
    """Who wrote the answer and how: enough to ask for it again. Zero and "" mean unknown."""

    engine: str = ""
    model: str = ""
    revision: str = ""
    licence: str = ""
    prompt: str = ""
    sample: int = 0
    seed: int = 0
    temperature: Number = 0.0
    top_p: Number = 0.0
    max_tokens: int = 0
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


def _meta_in(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


def _meta_out(value: dict[str, Any]) -> str:
    return orjson.dumps(value).decode()


Meta = Annotated[dict[str, Any], BeforeValidator(_meta_in), PlainSerializer(_meta_out, return_type=str)]


class Record(Line):
    """One example. `reasoning` is the thinking behind its last turn, kept apart from it.

    `by`, `reason`, `score` and `detail` are set once a stage has dropped it.
    """

    id: str = Field(min_length=1)
    task: str
    split: Split = "train"
    messages: list[Message] = Field(min_length=1)
    reasoning: str = ""
    seeds: list[str] = Field(min_length=1)
    made_by: MadeBy = MadeBy()
    checks: list[Check] = Field(min_length=1)
    meta: Meta = {}
    by: str = ""
    reason: Slug = ""
    score: Number = 0.0
    detail: str = ""

    @property
    def dropped(self) -> bool:
        """True once a stage has said no."""
        return self.by != ""

    @property
    def prompt(self) -> str:
        """The last user turn ("" when there is none)."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def answer(self) -> str:
        """The last assistant turn ("" when there is none)."""
        return next((m.content for m in reversed(self.messages) if m.role == "assistant"), "")

    def scored(self, name: str) -> float | None:
        """The newest value measured under `name`, or None where that was never measured."""
        return next((c.value for c in reversed(self.checks) if c.name == name), None)

    def checked(self, check: Check, *, drop: bool = True) -> "Record":
        """This record with `check` added; a failed check drops it, unless it is dropped already."""
        update: dict[str, Any] = {"checks": [*(c for c in self.checks if c.name != check.name), check]}
        if drop and not check.passed and not self.dropped:
            update |= {"by": check.name, "reason": check.reason, "score": check.value, "detail": check.detail}
        return self.model_copy(update=update)

    def line(self) -> bytes:
        """The record as one JSON line, newline included."""
        return orjson.dumps(self.model_dump(), option=orjson.OPT_APPEND_NEWLINE)
