"""What the objectives share that learn from more of the teacher than its words: soft labels, features, attention."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pipeline import console
from pipeline.errors import UsageError
from stages.objectives.base import NOBODY, LearnsFrom, Model, Teaching
from stages.objectives.divergence import Divergence
from stages.objectives.layers import Attention, Features, require_layers, require_relations
from stages.objectives.sft import as_sft
from stages.objectives.tuning import Tuning


class Distil(Tuning):
    """Cross-entropy, soft labels, hidden states and attention, each with its weight.

    Of one trained token: alpha T^2 D(teacher, student) + (1 - alpha) CE + the weighted losses of features and
    attention; summed over trained tokens and divided by their number in the whole batch.
    """

    alpha: Annotated[float, Field(ge=0, le=1, description="weight of the soft labels; 1 - alpha is cross-entropy's")]
    divergence: Annotated[Divergence, Field(description="D(teacher, student), per token")] = "forward_kl"
    beta: Annotated[float, Field(gt=0, lt=1, description="of jsd: the teacher's share of the mixture")] = 0.5
    skew: Annotated[float, Field(gt=0, lt=1, description="of skew_kl and skew_rkl: what is mixed in")] = 0.1
    temperature: Annotated[float, Field(gt=0, description="softens both; the loss is multiplied by its square")] = 2.0
    features: Annotated[Features | None, Field(description="hidden states of layers, beside the words")] = None
    attention: Annotated[Attention | None, Field(description="where layers look, beside the words")] = None

    @model_validator(mode="after")
    def _packs_what_stays_apart(self) -> Self:
        if self.attention is not None and self.config.get("packing"):
            raise ValueError("attention looks across a whole row: leave config.packing out")
        return self

    @property
    def learns_from(self) -> LearnsFrom:
        """The teacher itself."""
        return "teacher"

    @property
    def attn_implementation(self) -> str | None:
        """Only `eager` attention gives its weights away."""
        return "eager" if self.attention is not None and self.attention.of == "rows" else None

    def require(self, student: Model, teacher: Model | None) -> None:
        """Refuse other tokens than the teacher's, and layers there are not. Raises UsageError."""
        if teacher is None:
            return
        require_same_tokens(self.kind, student, teacher)
        if self.features is not None:
            require_layers("features", self.features.layers, student, teacher)
        if self.attention is not None:
            require_layers("attention", self.attention.layers, student, teacher)
            if self.attention.of == "relations":
                require_relations(self.attention, student, teacher)

    def draft(self, *, whole: bool) -> Tuning:
        """Rows are those of `sft`."""
        return as_sft(self).draft(whole=whole)

    def trainer(
        self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int, teaching: Teaching = NOBODY
    ) -> Any:
        """A `stages.trainers.distil.DistilTrainer`, with adapters where `lora` is given."""
        from stages.trainers.distil import DistilTrainer

        return DistilTrainer(
            model=model, args=self.arguments(len(rows), folder, seed), train_dataset=rows, processing_class=tokenizer,
            peft_config=self.peft(), objective=self, teaching=teaching,
        )  # fmt: skip


def require_same_tokens(kind: str, student: Model, teacher: Model) -> None:
    """Refuse a student whose tokens are not the teacher's. Raises UsageError.

    Vocabularies are compared, not their sizes: padded to another width they are still the same.
    """
    ours, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if ours != theirs:
        differ = min(
            (t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t)), key=lambda t: (len(t), t)
        )
        raise UsageError(
            f"objective {kind} compares student and teacher token by token, and they have different tokenizers "
            f"({len(ours):,} and {len(theirs):,} tokens; {differ!r} is {ours.get(differ)} and {theirs.get(differ)})",
            hint="sft, step_by_step and dpo learn from the teacher's words, whatever its tokenizer; "
            "or make the student from the teacher: train.student.init",
        )
    if student.tokenizer.chat_template != teacher.tokenizer.chat_template:
        console.warn("the teacher is fed the student's chat template, which is not its own")
