"""Differentially private fine-tuning (DP-SGD, arXiv 1607.00133): no single row shapes the model by more than is stated.

Meant for the generator alone: what it writes afterwards, and every student of that, costs no further privacy
(DistilDP, arXiv 2403.00932).
"""

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from stages import dp_sgd
from stages.dp_sgd import Accountant, Budget, Promise
from stages.objectives.base import NOBODY, Teaching
from stages.objectives.tuning import Lora, Tuning

if TYPE_CHECKING:
    from stages.preflight import Found


class Private(Tuning):
    """Cross-entropy on the last answer by DP-SGD: every row's gradient is clipped, and their sum gets noise."""

    honoured: ClassVar[frozenset[str]] = frozenset(
        {
            "adam_beta1", "adam_beta2", "adam_epsilon", "assistant_only_loss", "chat_template_path",
            "completion_only_loss", "dataset_num_proc", "eos_token", "lr_scheduler_kwargs", "max_steps", "optim",
            "optim_args", "pad_to_multiple_of", "pad_token", "truncation_mode", "warmup_steps", "weight_decay",
        }
    )  # fmt: skip

    kind: Literal["private"] = "private"
    epsilon: Annotated[
        float, Field(gt=0, description="the promise: no row makes any outcome more than e^epsilon times likelier")
    ]
    delta: Annotated[
        float | None, Field(gt=0, lt=1, description="the chance that it fails; 1 / (rows ln rows) where left out")
    ] = None
    max_epsilon: Annotated[float, Field(gt=0, description="refuse a higher epsilon: it would promise nothing")] = 10.0
    accountant: Annotated[
        Accountant, Field(description="how steps add up: prv is the tighter (arXiv 2106.02848), rdp the quicker")
    ] = "prv"
    max_grad_norm: Annotated[
        float, Field(gt=0, description="the length that a row's gradient is clipped to; low is good (arXiv 2110.05679)")
    ] = 0.1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    gradient_accumulation_steps: Annotated[
        int, Field(ge=1, description="times per_device_train_batch_size: the rows that a step draws on average")
    ] = 8
    train_sampling_strategy: Annotated[Literal["random"], Field(description="Poisson: each row by itself")] = "random"
    lora: Lora = Lora()

    @model_validator(mode="after")
    def _means_something(self) -> "Private":
        if self.epsilon > self.max_epsilon:
            raise ValueError(
                f"epsilon {self.epsilon:g} promises next to nothing: whoever gives even odds that a record was trained "
                f"on may, having seen the model, give {_odds(self.epsilon)} (e^epsilon), where epsilon 3 allows "
                f"{_odds(3)}; take 8 or less, or raise max_epsilon (now {self.max_epsilon:g}) and mean it"
            )
        return self

    @field_validator("config")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("packing") or value.get("padding_free"):
            raise ValueError("packing puts several rows into one sequence, and what is promised is promised by the row")
        if unknown := sorted(value.keys() - cls.honoured):
            raise ValueError(
                f"{', '.join(unknown)}: private has its own loop, which takes {', '.join(sorted(cls.honoured))}"
            )
        return value

    def settings(self) -> dict[str, Any]:
        """As of every objective; a layer that is computed twice would be counted twice."""
        return super().settings() | {"gradient_checkpointing": False, "max_grad_norm": self.max_grad_norm}

    def budget(self, rows: int, steps: int) -> Budget:
        """What so many steps over so many rows cost. Raises UsageError where that is not what was promised."""
        delta = dp_sgd.usual_delta(rows) if self.delta is None else self.delta
        batch = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return dp_sgd.budget(Promise(self.epsilon, delta, self.accountant), rows, batch, steps)

    def steps_to_make(self, rows: int) -> int:
        """Steps of the whole training: `max_steps` where the plan has it."""
        limit = self.config.get("max_steps")
        return limit if isinstance(limit, int) and limit > 0 else self.steps(rows)

    def examine(self, data: Any, teaching: Teaching) -> "list[Found]":
        """Refuses a promise that cannot be kept for these rows; notes rows that occur more than once."""
        from stages.preflight import Found
        from stages.preflight_rows import Fault

        self.budget(len(data), self.steps_to_make(len(data)))
        times = Counter(tuple(ids) for ids in data["input_ids"])
        most, ids = max((n, ids) for ids, n in times.items())
        if most == 1:
            return []
        first = next(row["id"] for row in data if tuple(row["input_ids"]) == ids)
        what = (
            f"it is there {most} times: what is promised is promised by the row, and whoever it is about gets "
            f"{most} times epsilon ({most * self.epsilon:g})"
        )
        repeated = sum(n for n in times.values() if n > 1)
        return [Found(Fault("repeated", what, "drop them: {kind: exact}", refused=False), repeated, first)]

    def trainer(
        self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int, teaching: Teaching = NOBODY
    ) -> Any:
        """An SFTTrainer whose `train` is DP-SGD."""
        from stages.trainers.private import PrivateTrainer

        return PrivateTrainer(
            self,
            model=model,
            args=self.arguments(len(rows), folder, seed),
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=self.peft(),
        )

    def figures(self, trainer: Any) -> dict[str, Any]:
        """The promise as it was kept."""
        return {"privacy": trainer.told()}

    def card(self, figures: dict[str, Any]) -> str:
        """What a model card says of it."""
        told = figures["privacy"]
        return (
            f"Trained with differential privacy: epsilon {told['epsilon']:.2f} at delta {told['delta']:.2g} by the "
            f"{told['accountant']} accountant, for adding or removing one {told['unit']} of the training data. DP-SGD "
            f"with Poisson sampling at rate {told['sample_rate']:.4g}, {told['steps']} steps, gradients clipped to "
            f"{told['max_grad_norm']:g} by the row, noise multiplier {told['noise_multiplier']:.4g}, from a "
            "generator that is seeded by the operating system and not cryptographic."
        )


def _odds(epsilon: float) -> str:
    odds = math.exp(min(epsilon, 700))
    return f"{odds:,.0f} to 1" if epsilon <= 20 else f"{odds:.0e} to 1"
