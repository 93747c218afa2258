"""Which language a text is written in: the one that the plan wants, or the prompt's."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from filters import tongues
from filters.base import TextFilter
from pipeline.config import nearest
from pipeline.records import Check, Record

SPOKEN = 0.15  # share from which a language counts as one of the prompt's


class Language(TextFilter):
    """Drops texts in another language than the plan wants, or answers in another than the prompt.

    A text too short to tell passes as unknown, and so does an answer in a language that the prompt names.
    """

    bounds: ClassVar = (("min_share", "min"),)

    kind: Literal["language"] = "language"
    want: Annotated[str, Field(description="code of the language: ko, en, ja, zh, fr...")] = ""
    same: Annotated[bool, Field(description="instead of `want`: the answer is in a language of the prompt")] = False
    min_share: Annotated[float, Field(ge=0, le=1, description="share of the text in that language")] = 0.5

    @model_validator(mode="after")
    def _one_aim(self) -> "Language":
        if self.same == bool(self.want):
            raise ValueError("give `want: CODE`, or `same: true`")
        if self.same and self.on != "answer":
            raise ValueError("`same` reads the prompt and the answer: leave `on` out")
        if self.want and tongues.related(self.want) not in tongues.known():
            codes = sorted(tongues.known())
            raise ValueError(f"{self.want!r} is no language code that can be told{nearest(self.want, codes)}")
        return self

    def measure(self, text: str) -> Check:
        """The share of the text in the wanted language."""
        return self._among(text, {tongues.related(self.want)}, "wrong_language", f"wanted {self.want}")

    def judge(self, record: Record) -> Check:
        """As `measure`, or against the prompt's languages; those the prompt names are as good."""
        wanted = {tongues.related(self.want)}
        if self.same:
            wanted = {code for code, share in tongues.shares(record.prompt).items() if share >= SPOKEN}
            if not wanted:
                return self.yes(1.0, "unknown: the prompt is too short to tell")
            said = f"the prompt is {' and '.join(sorted(wanted))}"
            check = self._among(record.answer, wanted, "other_language", said)
        else:
            check = super().judge(record)
            if self.on == "prompt" or (self.on == "both" and not self.measure(record.prompt).passed):
                return check
        if check.passed:
            return check
        asked = tongues.named(record.prompt)
        if asked and self._among(record.answer, asked | wanted, "", "").passed:
            return self.yes(check.value, f"the prompt names {', '.join(sorted(asked))}")
        return check

    def _among(self, text: str, wanted: set[str], reason: str, why: str) -> Check:
        told = tongues.shares(text)
        if not told:
            return self.yes(1.0, "unknown: too short or too mixed to tell")
        share = sum(told.get(code, 0.0) for code in wanted)
        if share < self.min_share:
            found = ", ".join(f"{code} {part:.0%}" for code, part in told.items())
            return self.no(share, reason, f"{found}; {why}")
        return self.yes(share)
