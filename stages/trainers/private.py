"""TRL's rows and collator, with DP-SGD in place of its loop (Abadi et al. 2016, arXiv 1607.00133)."""

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from transformers import TrainerState
from trl import SFTTrainer

from pipeline import console
from stages.dp_sgd import Noised
from stages.trainers.positions import places

if TYPE_CHECKING:
    from stages.objectives.private import Private

CHECKPOINT = "private.pt"
DROWNED = 10.0  # times as far as the rows: at 12.7 the demo model learned a quarter of what it did at 1.1


class PrivateTrainer(SFTTrainer):  # type: ignore[misc]  # TRL is not typed
    """Every row's loss is the mean over its trained tokens. None is kept: a curve of losses tells of the rows."""

    def __init__(self, private: "Private", **settings: Any) -> None:
        super().__init__(**settings)
        self.private = private

    def train(self, resume_from_checkpoint: str | None = None) -> None:
        """All steps, or those after a checkpoint. Raises UsageError where the promise cannot be kept."""
        rows, private = len(self.train_dataset), self.private
        steps = private.steps_to_make(rows)
        self.budget = private.budget(rows, steps)
        self.create_optimizer_and_scheduler(steps)
        self.model.train()
        self.noised = Noised(self.model, self.optimizer, self.budget, private.max_grad_norm)
        self._say_if_drowned()
        if resume_from_checkpoint is not None:
            self._restore(Path(resume_from_checkpoint))
        epoch, size = math.ceil(rows / self.budget.batch), self.args.per_device_train_batch_size
        for drawn in self.noised.draws(steps - self.state.global_step):
            self.noised.step([drawn[i : i + size] for i in range(0, len(drawn), size)], self._loss)
            self.lr_scheduler.step()
            self.state.global_step += 1
            self.callback_handler.on_step_end(self.args, self.state, self.control)
            if self.state.global_step % epoch == 0 or self.state.global_step == steps:
                self._log_and_save()
        self.noised.close()

    def told(self) -> dict[str, Any]:
        """The promise as it was kept, and how."""
        return {
            "epsilon": round(self.noised.spent, 4),
            "target_epsilon": self.budget.promise.epsilon,
            "delta": self.budget.promise.delta,
            "accountant": self.budget.promise.accountant,
            "noise_multiplier": round(self.budget.noise_multiplier, 6),
            "sample_rate": self.budget.sample_rate,
            "max_grad_norm": self.private.max_grad_norm,
            "steps": self.state.global_step,
            "unit": "row",
            "noise_reach": round(self._reach(), 3),
        }

    def _trained(self) -> dict[str, Any]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def _reach(self) -> float:
        return self.budget.reach(sum(p.numel() for p in self._trained().values()))

    def _say_if_drowned(self) -> None:
        if (reach := self._reach()) > DROWNED:
            console.warn(
                f"the noise that epsilon {self.budget.promise.epsilon:g} takes moves the adapters {reach:.0f} times as "
                "far as all rows together could: little will be learned. More rows help most; then a larger batch "
                "(gradient_accumulation_steps), more epochs, and smaller adapters (lora: {r: 4})"
            )

    def _loss(self, part: list[int]) -> Any:
        batch = self.data_collator([self.train_dataset[i] for i in part])
        return row_losses(self.model, {name: values.to(self.args.device) for name, values in batch.items()}).sum()

    def _log_and_save(self) -> None:
        """A checkpoint in place of the one before; `trainer_state.json` last, so that it is whole where that is."""
        step, rate = self.state.global_step, self.lr_scheduler.get_last_lr()[0]
        self.state.log_history.append({"step": step, "learning_rate": rate, "epsilon": round(self.noised.spent, 4)})
        made = Path(self.args.output_dir) / f"checkpoint-{step}"
        made.mkdir(parents=True, exist_ok=True)
        state = {
            "adapters": self._trained(),
            "noised": self.noised.state(),
            "schedule": self.lr_scheduler.state_dict(),
        }
        torch.save(state, made / CHECKPOINT)
        self.state.save_to_json(str(made / "trainer_state.json"))
        for old in made.parent.glob("checkpoint-*"):
            if old != made:
                shutil.rmtree(old)

    def _restore(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint / CHECKPOINT, weights_only=True)
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(state["adapters"][name])
        self.noised.restore(state["noised"])
        self.lr_scheduler.load_state_dict(state["schedule"])
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def row_losses(model: Any, batch: dict[str, Any]) -> Any:
    """Every row's cross-entropy, the mean over its trained tokens: a tensor of as many values as rows."""
    inputs = dict(batch)
    there = places(inputs.pop("labels"))
    logits = there.made(model(**inputs, use_cache=False, logits_to_keep=there.columns).logits)
    each = functional.cross_entropy(logits.float(), there.targets, reduction="none")
    summed = each.new_zeros(len(there.trained)).index_add(0, there.trained.nonzero()[:, 0], each)
    return summed / there.trained.sum(1)
