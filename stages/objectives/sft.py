"""Supervised fine-tuning on the teacher's words (response distillation; Kim & Rush 2016, arXiv 1606.07947)."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from pipeline.component import Component
from pipeline.errors import UsageError
from pipeline.records import Record
from stages.objectives.base import Objective


class Lora(Component):
    """Low-rank adapters in place of full fine-tuning (Hu et al. 2021, arXiv 2106.09685); names as in peft."""

    r: Annotated[int, Field(ge=1)] = 16
    lora_alpha: Annotated[int, Field(ge=1)] = 32
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] = "all-linear"


class Sft(Objective):
    """Cross-entropy on the last answer, given what came before it (TRL's SFTTrainer)."""

    kind: Literal["sft"] = "sft"
    num_train_epochs: Annotated[float, Field(gt=0)] = 3.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    per_device_train_batch_size: Annotated[int, Field(ge=1)] = 8
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    max_length: Annotated[int, Field(ge=8, description="tokens; longer rows are cut")] = 1024
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    train_sampling_strategy: Annotated[
        Literal["random", "sequential"], Field(description="sequential: in the order that curate wrote the rows in")
    ] = "random"
    lora: Lora | None = None
    config: Annotated[dict[str, Any], Field(description="further SFTConfig arguments, as they are")] = {}

    def row(self, record: Record) -> dict[str, Any]:
        """`prompt` and `completion` as TRL's conversational format."""
        turns = [m.model_dump() for m in record.messages]
        if len(turns) < 2 or turns[-1]["role"] != "assistant":
            raise UsageError(f"record {record.id} does not end with an answer: sft needs prompt and answer")
        return {"prompt": turns[:-1], "completion": turns[-1:]}

    def draft(self, *, whole: bool) -> Self:
        """The same without adapters; if `whole`, with every row as long as it is and by itself."""
        alone = {"max_length": None, "packing": False, "padding_free": False, "shuffle_dataset": False}
        return self.model_copy(update={"lora": None, "config": self.config | (alone if whole else {})})

    def arguments(self, rows: int, folder: Path, seed: int) -> Any:
        """An SFTConfig; on a CPU in float32, on a GPU in bfloat16 where it can."""
        import torch
        from trl import SFTConfig

        cuda = torch.cuda.is_available()
        settings = self.model_dump(exclude={"kind", "lora", "config", "warmup_ratio"})
        steps = _steps(rows, self)
        arguments = {
            "output_dir": str(folder),
            "seed": seed,
            "use_cpu": not cuda,
            "bf16": cuda and torch.cuda.is_bf16_supported(),
            "gradient_checkpointing": cuda,
            "warmup_steps": round(self.warmup_ratio * steps),
            "logging_steps": max(1, min(10, steps // 20)),
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": cuda,
        }
        try:
            return SFTConfig(**(arguments | settings | self.config))
        except (TypeError, ValueError) as error:
            raise UsageError(f"train.objective.config: {error}") from error

    def trainer(self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int) -> Any:
        """An SFTTrainer, with adapters where `lora` is given."""
        config = self.arguments(len(rows), folder, seed)
        peft = None
        if self.lora is not None:
            from peft import LoraConfig

            peft = LoraConfig(task_type="CAUSAL_LM", **self.lora.model_dump())
        return trainer_class(config)(
            model=model, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=peft
        )


def _steps(rows: int, sft: Sft) -> int:
    """Optimizer steps of the whole training."""
    batch = sft.per_device_train_batch_size * sft.gradient_accumulation_steps
    return max(1, round(-(-rows // batch) * sft.num_train_epochs))


def trainer_class(config: Any) -> Any:
    """TRL's SFTTrainer; on a CPU with the same loss computed at the trained positions only.

    TRL's fused head works through every position, prompt and padding too, in chunks made for GPUs: 6 s for a step
    that takes 1.6 s this way (8 rows, 46 M parameters, 2 cores).
    """
    import torch
    from trl import SFTTrainer

    if not config.use_cpu or config.loss_type != "nll" or config.label_smoothing_factor:
        return SFTTrainer

    class TrainedPositions(SFTTrainer):  # type: ignore[misc]  # TRL is not typed
        """Cross-entropy summed over trained tokens, divided by their number in the whole batch."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if return_outputs or self.aux_loss_enabled:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            inputs = dict(inputs)
            labels = inputs.pop("labels")[:, 1:]
            columns = (labels != -100).any(0).nonzero().squeeze(1)
            logits = model(**inputs, use_cache=False, logits_to_keep=columns).logits
            targets = labels[:, columns]
            trained = targets != -100
            loss = torch.nn.functional.cross_entropy(logits[trained].float(), targets[trained], reduction="sum")
            count = trained.sum() if num_items_in_batch is None else num_items_in_batch
            return loss / torch.as_tensor(count).clamp(min=1)

    return TrainedPositions
