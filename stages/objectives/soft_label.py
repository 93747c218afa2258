"""Soft labels (Hinton et al. 2015, arXiv 1503.02531), from the teacher itself or from what generate stored of it."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stages.objectives.base import MASKED, LearnsFrom, Teaching
from stages.objectives.distil import Distil
from stages.objectives.stored import covered

if TYPE_CHECKING:
    from stages.preflight import Found

BARE = 0.5  # more rows than this without stored log-probabilities, and something is wrong


class SoftLabel(Distil):
    """The teacher's distribution of each next token beside the token itself."""

    kind: Literal["soft_label"] = "soft_label"
    alpha: Annotated[
        float, Field(ge=0, le=1, description="weight of the soft labels; 1 - alpha is cross-entropy's")
    ] = 0.5
    stored: Annotated[
        bool, Field(description="learn from the log-probabilities that generate stored; no teacher is loaded")
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _stored_is_at_one(cls, given: Any) -> Any:
        stored = isinstance(given, dict) and given.get("stored") is True
        return {"temperature": 1.0} | given if stored else given

    @model_validator(mode="after")
    def _stored_holds_no_more(self) -> Self:
        if not self.stored:
            return self
        if self.temperature != 1:
            raise ValueError(
                "temperature: log-probabilities of a few tokens are known at temperature 1 alone; leave it out"
            )
        if self.features is not None or self.attention is not None:
            raise ValueError("features and attention need the teacher itself: stored: false")
        if self.config.get("packing") or self.config.get("padding_free"):
            raise ValueError("packing loses which record a token is of, and so its stored log-probabilities")
        return self

    @property
    def learns_from(self) -> LearnsFrom:
        """The teacher itself, or what is stored of it."""
        return "stored" if self.stored else "teacher"

    def examine(self, data: Any, teaching: Teaching) -> "list[Found]":
        """How many rows have no stored log-probabilities of their own words: they learn from the words alone."""
        from stages.preflight import Found
        from stages.preflight_rows import Fault

        if teaching.stored is None:
            return []
        bare: list[str] = []
        known = trained = 0
        for row in data:
            _, agree = covered(row["labels"], teaching.stored.tokens(row["id"]), MASKED)
            known, trained = known + agree, trained + sum(label != MASKED for label in row["labels"])
            bare += [row["id"]] if not agree else []
        share = known / max(1, trained)
        what = f"{share:.1%} of the trained tokens have stored log-probabilities ({teaching.stored.k} each)"
        found = [Found(Fault("stored", what, "", refused=False), 0, "")]
        if bare:
            why = "no log-probabilities are stored for its words, which it learns from alone"
            hint = (
                "the student's tokenizer is not the teacher's, or the task makes the answer of something else than "
                "the teacher's own words: stored: false, or objective sft"
            )
            fault = Fault("not_stored", why, hint, refused=len(bare) > BARE * len(data))
            found.append(Found(fault, len(bare), bare[0]))
        return found
