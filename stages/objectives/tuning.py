"""What every objective over a TRL trainer shares: the settings people change, and the rest as they are."""

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from pipeline import machine
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


class Tuning(Objective):
    """Base of the objectives that TRL trains with."""

    config_class: ClassVar[str] = "SFTConfig"
    not_arguments: ClassVar[frozenset[str]] = frozenset({"kind", "lora", "config", "warmup_ratio"})

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
    config: Annotated[dict[str, Any], Field(description="further arguments of TRL's config, as they are")] = {}

    def row(self, record: Record) -> dict[str, Any]:
        """`prompt` and `completion` as TRL's conversational format."""
        turns = [m.model_dump() for m in record.messages]
        if len(turns) < 2 or turns[-1]["role"] != "assistant":
            raise UsageError(f"record {record.id} does not end with an answer: {self.kind} needs prompt and answer")
        return {"prompt": turns[:-1], "completion": turns[-1:]}

    def draft(self, *, whole: bool) -> "Tuning":
        """The same without adapters; if `whole`, with every row as long as it is and by itself."""
        alone = {"max_length": None, "packing": False, "padding_free": False, "shuffle_dataset": False}
        return self.model_copy(update={"lora": None, "config": self.config | (alone if whole else {})})

    def halved(self) -> Self | None:
        """The same steps from smaller batches: what a device without enough memory may still hold; None at one row."""
        size = self.per_device_train_batch_size
        half = next((n for n in range(size // 2, 0, -1) if size % n == 0), None)
        if half is None:
            return None
        steps = self.gradient_accumulation_steps * (size // half)
        return self.model_copy(update={"per_device_train_batch_size": half, "gradient_accumulation_steps": steps})

    def steps(self, rows: int) -> int:
        """Optimizer steps of the whole training, without packing."""
        batch = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return max(1, math.ceil(-(-rows // batch) * self.num_train_epochs))

    def settings(self) -> dict[str, Any]:
        """The fields that TRL's config takes under the same name."""
        return {name: getattr(self, name) for name in Tuning.model_fields if name not in self.not_arguments}

    def arguments(self, rows: int, folder: Path, seed: int) -> Any:
        """TRL's config; on a CPU in float32, on a GPU in bfloat16 where it can."""
        import torch
        import trl

        cuda = torch.cuda.is_available()
        if not cuda and self.config.get("use_cpu") is False:
            raise UsageError("train.objective.config.use_cpu is false, and there is no GPU here", hint="leave it out")
        if not cuda and self.config.get("fp16"):
            raise UsageError("train.objective.config.fp16 needs a GPU, and there is none here", hint="leave it out")
        if not cuda and self.config.get("bf16") and not machine.bf16():
            raise UsageError(
                "train.objective.config.bf16: this CPU has no instructions for it, and there is no GPU here",
                hint="leave it out: a CPU trains in float32",
            )
        steps = self.steps(rows)
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
            return getattr(trl, self.config_class)(**(arguments | self.settings() | self.config))
        except (TypeError, ValueError) as error:
            raise UsageError(f"train.objective.config: {' '.join(str(error).split())[:400]}") from error

    def peft(self) -> Any:
        """peft's configuration of the adapters; None for full fine-tuning."""
        if self.lora is None:
            return None
        from peft import LoraConfig

        return LoraConfig(task_type="CAUSAL_LM", **self.lora.model_dump())
