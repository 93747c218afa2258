"""Prompt templates as files: front matter, then turns, each a sandboxed Jinja template.

    ---
    about: A short story for small children.
    needs: [character, keywords]
    language: en
    licence: Apache-2.0
    ---
    >>> user
    Write a story about {{ character }} ...

A turn marked `>>> shot user` or `>>> shot assistant` is a few-shot example: the model sees it, the record that is made
from the answer does not carry it. A plan names a file of its own (relative to the plan) or a bundled one without its
suffix (`judge/story`). Values fill slots and are never template source; a value that is not there is an error.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from pipeline.component import file_digest
from pipeline.config import nearest
from pipeline.errors import UsageError
from pipeline.records import Message, Role

HERE = Path(__file__).resolve().parent
TURN = ">>> "
_jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=False)


class Front(BaseModel):
    """What a prompt file says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    needs: tuple[str, ...] = ()
    language: str = "en"
    source: str = ""
    licence: str = "Apache-2.0"
    scale: Annotated[tuple[int, int] | None, Field(description="lowest and highest score of a judge")] = None


class Turn(NamedTuple):
    """One turn of a prompt file."""

    role: Role
    shot: bool
    template: Template


class Prompt:
    """A parsed prompt file."""

    def __init__(self, path: Path, front: Front, turns: list[Turn]) -> None:
        self.path, self.front, self._turns = path, front, turns
        self.name = f"{path.stem}@{file_digest(path)[:8]}"

    def render(self, values: Mapping[str, Any], *, shots: bool = True) -> tuple[Message, ...]:
        """The turns with their slots filled, few-shot turns too. Raises UsageError where a value is missing."""
        turns = [t for t in self._turns if shots or not t.shot]
        try:
            return tuple(Message(role=t.role, content=t.template.render(values).strip()) for t in turns)
        except TemplateError as error:
            raise UsageError(f"{self.path}: {error.message}") from error
        except (TypeError, ValueError, ArithmeticError) as error:  # what a template does with a value it cannot take
            raise UsageError(f"{self.path}: {error}") from error

    def require(self, given: set[str]) -> None:
        """Raise UsageError for the first declared need that `given` has not."""
        for name in self.front.needs:
            if name not in given:
                raise UsageError(f"{self.path} needs {name!r}, which nothing gives it{nearest(name, sorted(given))}")


@cache
def load(path: Path) -> Prompt:
    """Parse a prompt file. Raises UsageError with the line of what is wrong."""
    text = path.read_text(encoding="utf-8")
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0].strip():
        raise UsageError(f"{path}:1 does not begin with front matter between two `---` lines")
    try:
        front = Front.model_validate(yaml.safe_load(parts[1]))
    except (yaml.YAMLError, ValidationError) as error:
        raise UsageError(f"{path}: front matter: {' '.join(str(error).split())}") from error
    first = parts[1].count("\n") + 3
    turns = [
        Turn(role, shot, _compile(path, line, body, front)) for line, role, shot, body in _turns(parts[2], path, first)
    ]
    if not turns:
        raise UsageError(f"{path} has no turn; begin one with `{TURN}user`")
    return Prompt(path, front, turns)


def _turns(text: str, path: Path, first: int) -> list[tuple[int, Role, bool, str]]:
    """Line, role, whether it is a few-shot turn, and text of every turn."""
    found: list[tuple[int, Role, bool, list[str]]] = []
    for number, line in enumerate(text.splitlines(keepends=True), first):
        if line.startswith(TURN):
            *shot, role = line.removeprefix(TURN).split() or [""]
            if shot not in ([], ["shot"]) or role not in ("system", "user", "assistant"):
                raise UsageError(f"{path}:{number} {line.strip()!r}: use {TURN}system, user or assistant")
            found.append((number + 1, role, bool(shot), []))  # type: ignore[arg-type]
        elif found:
            found[-1][3].append(line)
        elif line.strip():
            raise UsageError(f"{path}:{number} text before the first `{TURN}role` line")
    return [(number, role, shot, "".join(lines)) for number, role, shot, lines in found]


def _compile(path: Path, line: int, body: str, front: Front) -> Template:
    try:
        tree = _jinja.parse(body)
        names = meta.find_undeclared_variables(tree)
        template = _jinja.from_string(body)
    except TemplateError as error:
        at = line + (getattr(error, "lineno", 1) or 1) - 1
        raise UsageError(f"{path}:{at} {error.message}") from error
    for name in sorted(names):
        if name not in front.needs:
            at = line + min(n.lineno for n in tree.find_all(nodes.Name) if n.name == name) - 1
            raise UsageError(f"{path}:{at} uses {name!r}, which is not in `needs`{nearest(name, front.needs)}")
    return template


def inline(text: str, names: frozenset[str]) -> Template:
    """A template that stands in a plan itself and may use `names`. Raises ValueError."""
    try:
        used = meta.find_undeclared_variables(_jinja.parse(text))
        template = _jinja.from_string(text)
    except TemplateError as error:
        raise ValueError(f"not a template: {error.message}") from error
    if unknown := sorted(used - names):
        raise ValueError(f"{unknown[0]!r} is not known here{nearest(unknown[0], sorted(names))}")
    return template


def bundled() -> list[str]:
    """Names of the prompts that come with the package."""
    return sorted(p.relative_to(HERE).with_suffix("").as_posix() for p in HERE.rglob("*.md"))


def _resolve(name: Path, info: ValidationInfo) -> Path:
    own = ((info.context or {}).get("folder", Path()) / name).resolve()
    inside = HERE / f"{name}.md"
    path = own if own.is_file() else inside
    if not path.is_file():
        raise ValueError(f"no prompt {name}: neither the file {own} nor a bundled one{nearest(str(name), bundled())}")
    load(path)
    return path


PromptFile = Annotated[Path, AfterValidator(_resolve)]
"""A prompt named in a plan; counts by its content."""


def bundled_prompt(name: str, language: str) -> Path:
    """The file of a bundled prompt in one language: `bundled_prompt("doc_qa", "ko")`."""
    return HERE / name / f"{language}.md"


def in_language(name: str) -> BeforeValidator:
    """For a setting that, where a plan leaves it out, holds the bundled prompt of the setting `language` before it."""

    def named(path: Any, info: ValidationInfo) -> Any:
        language = info.data.get("language")
        return bundled_prompt(name, language) if path is None and language else path

    return BeforeValidator(named, json_schema_input_type=Path | None)
