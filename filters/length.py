"""Length of a text in characters, words or tokens."""

import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from filters.base import TextFilter
from filters.text import words
from pipeline import models
from pipeline.errors import ModelError
from pipeline.records import Check

Bound = Annotated[int, Field(ge=0)]
UNITS = ("chars", "words", "tokens")


class Length(TextFilter):
    """Characters (a Hangul syllable is one), words, or tokens of a tokenizer; white space at the ends left out."""

    bounds: ClassVar = tuple((f"{side}_{unit}", side) for unit in UNITS for side in ("min", "max"))

    kind: Literal["length"] = "length"
    min_chars: Annotated[
        Bound | None, Field(description="drop shorter texts; 1 when left out, unless another unit is given")
    ] = None
    max_chars: Annotated[Bound | None, Field(description="drop longer texts")] = None
    min_words: Annotated[Bound | None, Field(description="in words; Han and kana count by the character")] = None
    max_words: Annotated[Bound | None, Field(description="in words")] = None
    min_tokens: Annotated[Bound | None, Field(description="in tokens of `tokenizer`")] = None
    max_tokens: Annotated[Bound | None, Field(description="in tokens of `tokenizer`")] = None
    tokenizer: Annotated[str, Field(description="whose tokens: a model's folder, Hub id or `demo:` name")] = ""

    @model_validator(mode="after")
    def _one_unit_in_order(self) -> "Length":
        given = [unit for unit in UNITS if self._bounds(unit) != (None, None)]
        if len(given) > 1:
            raise ValueError(f"bounds in {' and '.join(given)}: give each unit a rule of its own")
        unit = self._unit
        low, high = self._bounds(unit)
        if low is not None and high is not None and high < low:
            raise ValueError(f"max_{unit} is {high}, below min_{unit} {low}")
        if (unit == "tokens") != bool(self.tokenizer):
            raise ValueError("min_tokens and max_tokens need a `tokenizer`, and only they do")
        return self

    @field_validator("tokenizer")
    @classmethod
    def _at_hand(cls, name: str) -> str:
        try:
            if name and models.find(name).local:
                _file(name)
        except ModelError as error:
            raise ValueError(str(error)) from error
        return name

    @property
    def _unit(self) -> str:
        return next((unit for unit in UNITS if self._bounds(unit) != (None, None)), "chars")

    def _bounds(self, unit: str) -> tuple[int | None, int | None]:
        return getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")

    def measure(self, text: str) -> Check:
        """The size against both bounds."""
        unit = self._unit
        low, high = self._bounds(unit)
        if low is None:
            low = 1 if unit == "chars" else 0
        size, noun = self._size(text.strip(), unit), "characters" if unit == "chars" else unit
        if size < low:
            return self.no(size, "too_short", f"{size} {noun}, under {low}")
        if high is not None and size > high:
            return self.no(size, "too_long", f"{size} {noun}, over {high}")
        return self.yes(size)

    def _size(self, text: str, unit: str) -> int:
        if unit == "words":
            return len(words(text))
        if unit == "tokens":
            return len(_tokenizer(self.tokenizer).encode(text, add_special_tokens=False).ids)
        return len(text if text.isascii() else unicodedata.normalize("NFC", text))


def _file(name: str) -> Path:
    model = models.ensure(name)
    folder = Path(model.where) if model.local else models.cached(name) or Path()
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(f"tokenizer {name}: no tokenizer.json in {folder}", hint="name a model that brings one")
    return folder / "tokenizer.json"


@lru_cache(maxsize=8)
def _tokenizer(name: str) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_file(name)))
    tokenizer.no_truncation()
    return tokenizer
