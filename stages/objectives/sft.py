"""Supervised fine-tuning on the teacher's words (response distillation; Kim & Rush 2016, arXiv 1606.07947)."""

from pathlib import Path
from typing import Any, Literal

from stages.objectives.base import NOBODY, Teaching
from stages.objectives.tuning import Tuning


class Sft(Tuning):
    """Cross-entropy on the last answer, given what came before it (TRL's SFTTrainer)."""

    kind: Literal["sft"] = "sft"

    def trainer(
        self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int, teaching: Teaching = NOBODY
    ) -> Any:
        """An SFTTrainer, with adapters where `lora` is given."""
        config = self.arguments(len(rows), folder, seed)
        return trainer_class(config)(
            model=model, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=self.peft()
        )


def as_sft(goal: Tuning) -> Sft:
    """`sft` over the same rows with the same settings: what prepares rows for objectives with another loss."""
    return Sft(**{name: getattr(goal, name) for name in Tuning.model_fields if name != "kind"})


def trainer_class(config: Any) -> Any:
    """TRL's SFTTrainer; on a CPU with the same loss computed at the trained positions only, which is faster there."""
    from trl import SFTTrainer

    from stages.trainers.positions import TrainedPositions

    own = config.use_cpu and config.loss_type == "nll" and not config.label_smoothing_factor
    return TrainedPositions if own else SFTTrainer
