"""What the objectives share whose student writes answers itself while it trains, for the teacher to grade."""

from abc import abstractmethod
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from pipeline.errors import UsageError
from stages.objectives.base import NOBODY, LearnsFrom, Model, Teaching
from stages.objectives.distil import require_same_tokens
from stages.objectives.sft import Sft, as_sft
from stages.objectives.tuning import Tuning


class OnPolicy(Tuning):
    """Base: the divergence from the teacher on answers that the student wrote a moment ago (TRL's DistillationTrainer).

    Over every token of an answer, its end included, averaged over the tokens of the whole batch. No gradient goes
    through the sampling (GKD, arXiv 2306.13649).
    """

    config_class: ClassVar[str] = "DistillationConfig"

    temperature: Annotated[float, Field(gt=0, description="the student writes at it, and both are compared at it")] = (
        1.0
    )
    max_completion_length: Annotated[
        int, Field(ge=1, description="tokens that the student writes at most; max_length bounds prompt and answer")
    ] = 256

    @property
    @abstractmethod
    def direction(self) -> float:
        """TRL's `beta`: 0 forward KL, 1 reverse KL, between them the generalised Jensen-Shannon divergence."""

    @property
    @abstractmethod
    def own_share(self) -> float:
        """The share of rows whose answer the student writes; the others keep the answer that they came with."""

    @property
    def learns_from(self) -> LearnsFrom:
        """The teacher itself."""
        return "teacher"

    def require(self, student: Model, teacher: Model | None) -> None:
        """Refuse other tokens than the teacher's, and a vocabulary that is padded wider. Raises UsageError."""
        if teacher is None:
            return
        require_same_tokens(self.kind, student, teacher)
        ours, theirs = width(student.model), width(teacher.model)
        used = max(student.tokenizer.get_vocab().values()) + 1
        if not used <= ours <= theirs:
            raise UsageError(
                f"objective {self.kind}: the student has room for {ours:,} tokens and the teacher for {theirs:,}, of "
                f"which {used:,} are tokens; the teacher can be cut to the student's room, the student not",
                hint="{kind: soft_label, divergence: reverse_kl, alpha: 1} compares vocabularies of any room; "
                "or make the student from the teacher: train.student.init",
            )

    def draft(self, *, whole: bool) -> Tuning:
        """Rows are those of `sft`. Raises UsageError for settings that DistillationConfig does not have."""
        import trl

        ours, theirs = (
            {field.name for field in fields(getattr(trl, name))} for name in (self.config_class, Sft.config_class)
        )
        if unknown := sorted(self.config.keys() - ours):
            known = [name for name in unknown if name in theirs]
            raise UsageError(
                f"train.objective.config: TRL's {self.config_class} has no {', '.join(unknown)}",
                hint=f"objective sft has {', '.join(known)}: teach the student with that first, its model keeps it"
                if known
                else f"names are those of trl.{self.config_class}",
            )
        config = {name: value for name, value in self.config.items() if name in theirs}
        return as_sft(self.model_copy(update={"config": config})).draft(whole=whole)

    def settings(self) -> dict[str, Any]:
        """One of the trainer's batches is one step: it writes for all of it, then goes through it in parts."""
        batch = self.per_device_train_batch_size * self.gradient_accumulation_steps
        own = {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": 1,
            "temperature": self.temperature,
            "max_completion_length": min(self.max_completion_length, self.max_length),
            "beta": self.direction,
            "disable_dropout": self.lora is None or not self.lora.lora_dropout,  # it would write with dropout too
        }
        return {name: value for name, value in super().settings().items() if name != "max_length"} | own

    def trainer(
        self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int, teaching: Teaching = NOBODY
    ) -> Any:
        """A `stages.trainers.on_policy.OnPolicyTrainer`, with adapters where `lora` is given.

        A teacher with a wider vocabulary than the student is cut to the student's: no token is beyond.
        """
        from stages.trainers.on_policy import OnPolicyTrainer, fitting

        teacher, room = teaching.teacher, width(model)
        if teacher is not None:
            if width(teacher) > room:
                teacher.resize_token_embeddings(room)
            teacher.requires_grad_(False).eval()
        rows = fitting(rows, tokenizer, self.max_length)
        return OnPolicyTrainer(
            model=model, teacher_model=teacher, args=self.arguments(len(rows), folder, seed), train_dataset=rows,
            processing_class=tokenizer, peft_config=self.peft(), own_share=self.own_share,
            at_once=self.per_device_train_batch_size, max_length=self.max_length,
        )  # fmt: skip

    def figures(self, trainer: Any) -> dict[str, Any]:
        """Of the last answers that were trained on: tokens of one, and the share that reached no end."""
        last: dict[str, Any] = next(
            (row for row in reversed(trainer.state.log_history) if "completions/mean_length" in row), {}
        )
        names = {"answer_tokens": "completions/mean_length", "endless_answers": "completions/clipped_ratio"}
        return {ours: round(last[theirs], 4) for ours, theirs in names.items() if theirs in last}


def width(model: Any) -> int:
    """The tokens that a model's vocabulary has room for, padding included."""
    return int(model.config.get_text_config().vocab_size)
