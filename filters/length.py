"""Length of the answer."""

import unicodedata
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from filters.base import Filter
from pipeline.records import Check, Record


class Length(Filter):
    """Characters of the answer, white space at the ends left out; a Hangul syllable counts as one."""

    bounds: ClassVar = (("min_chars", "min"), ("max_chars", "max"))

    kind: Literal["length"] = "length"
    min_chars: Annotated[int, Field(ge=0, description="drop shorter answers")] = 1
    max_chars: Annotated[int | None, Field(ge=1, description="drop longer answers; no limit when left out")] = None

    @model_validator(mode="after")
    def _ordered(self) -> "Length":
        if self.max_chars is not None and self.max_chars < self.min_chars:
            raise ValueError(f"max_chars is {self.max_chars}, below min_chars {self.min_chars}")
        return self

    def judge(self, record: Record) -> Check:
        """The number of characters against both bounds."""
        size = len(unicodedata.normalize("NFC", record.answer.strip()))
        if size < self.min_chars:
            return self.no(size, "too_short", f"{size} characters, under {self.min_chars}")
        if self.max_chars is not None and size > self.max_chars:
            return self.no(size, "too_long", f"{size} characters, over {self.max_chars}")
        return self.yes(size)
