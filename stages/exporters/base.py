"""What a form of a student is: files that something else serves, and a way to read them back for the check."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pipeline.errors import ModelError
from pipeline.store import Version

CARD = "README.md"
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "chat_template*", "vocab.*", "merges.txt")
SETTINGS = ("config.json", "generation_config.json")


class Finished:
    """A finished student: a train version of a plan, whose files are only read. `name`: how it is served."""

    def __init__(self, version: Version, plan: str) -> None:
        self.version, self.plan, self.name = version, plan, f"{plan}-student"

    @property
    def model(self) -> Path:
        """Whole weights, tokenizer and card."""
        return self.version.path / "model"

    @property
    def adapter(self) -> Path:
        """The adapters by themselves; there only where it was trained with `lora`."""
        return self.version.path / "adapter"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's configuration. Raises ModelError where it cannot be read."""
        try:
            found: dict[str, Any] = json.loads((self.model / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.model} has no readable config.json", hint="train the student again") from error
        return found

    @property
    def sort(self) -> str:
        """The architecture, as transformers calls it: `llama`, `qwen2`..."""
        return str(self.config.get("model_type", "unknown"))

    def copy(self, folder: Path, *patterns: str) -> None:
        """Copy files of the model into `folder`."""
        for pattern in patterns:
            for file in sorted(self.model.glob(pattern)):
                if file.is_file():
                    shutil.copy2(file, folder / file.name)

    def card(self, more: str) -> str:
        """The student's card (its licence, what it was made from), with a word on this form."""
        card = self.model / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else f"# {self.name}\n"
        return f"{text.rstrip()}\n\n## This form\n{more.strip()}\n"


class Read(NamedTuple):
    """What a model says to some tokens."""

    logits: Any
    """float32 array, tokens x vocabulary"""
    past: Any
    """hand it in with the tokens that follow"""


class Reader(ABC):
    """A form that has been loaded again, one sequence at a time."""

    @abstractmethod
    def read(self, ids: list[int], past: Any = None) -> Read:
        """Logits at every token, given what `past` holds."""


class Form(ABC):
    """Base of the forms. `timed`: reading it back is how it will be served, so its speed means something."""

    name: ClassVar[str]
    default: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ()
    timed: ClassVar[bool] = True

    @abstractmethod
    def require(self, student: Finished) -> None:
        """Raise UsageError where the student has no such form; reads small files only."""

    @abstractmethod
    def write(self, student: Finished, folder: Path, whole: Mapping[str, Path]) -> str:
        """Fill an empty folder; `whole` are forms of the same student that exist. What the card says of it, with a
        command that is run in the folder.
        """

    @abstractmethod
    def open(self, student: Finished, folder: Path) -> Reader:
        """Load what was written."""
