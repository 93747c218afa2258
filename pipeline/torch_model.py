"""Transformers models that this process loads: what names them, how they are loaded, in which batches they read."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from pipeline import console, machine
from pipeline.component import Component
from pipeline.errors import ModelError
from pipeline.models import Model, ensure, find, refuse_too_large

Head = Literal["AutoModelForCausalLM", "AutoModelForSequenceClassification"]
DType = Annotated[str, Field(description="auto, float32, bfloat16...; auto is float32 on a CPU")]


class LocalModel(Component):
    """Base of what loads a model itself."""

    model: Annotated[str, Field(description="Hub id, local path or demo: name")]
    revision: str = ""

    def identity(self) -> dict[str, Any]:
        """A model in a folder counts by its content."""
        try:
            return super().identity() | {"weights": find(self.model, self.revision).revision}
        except ModelError:  # not there; said when it is needed
            return super().identity()

    def weights(self) -> list[tuple[str, str]]:
        """The model."""
        return [(self.model, self.revision)]


class TorchModel(LocalModel):
    """Base of what reads texts with a transformers model."""

    dtype: DType = "auto"

    def load(self, head: Head) -> "Loaded":
        """The model, fetched where it is not here yet. Raises ModelError."""
        return load(ensure(self.model, self.revision), self.revision, number_format(self.dtype), head)


class Loaded(NamedTuple):
    """A model ready to read, on the GPU where there is one."""

    model: Any
    tokenizer: Any
    missing: list[str]
    """weights that the model should have and its files have not"""


def number_format(dtype: str) -> str:
    """What `auto` means on this machine: float32 on a CPU, the model's own on a GPU."""
    return "float32" if dtype == "auto" and not machine.gpus() else dtype


def load(found: Model, revision: str, dtype: str, head: Head, log: Path | None = None) -> Loaded:
    """Model and tokenizer from safetensors; the library's own words go to `log`. Raises ModelError."""
    if not machine.gpus():
        refuse_too_large(found, dtype)
    try:
        import torch
        import transformers
    except ImportError as error:
        hint = "pip install 'pipeline[transformers]'"
        raise ModelError(f"transformers is not installed ({error})", hint=hint) from error
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ModelError(f"no such dtype: {dtype}", hint="auto, float32, bfloat16 or float16")
    where = {"trust_remote_code": False} | ({} if found.local or not revision else {"revision": revision})
    try:
        with console.silenced(log):
            tokenizer = transformers.AutoTokenizer.from_pretrained(found.where, **where)
            model, info = getattr(transformers, head).from_pretrained(
                found.where, dtype=dtype, use_safetensors=True, output_loading_info=True, **where
            )
            model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    except (OSError, ValueError, KeyError, RuntimeError, MemoryError, ImportError, AttributeError) as error:
        raise ModelError(f"transformers cannot load {found.name}: {' '.join(str(error).split())[:400]}") from error
    return Loaded(model, tokenizer, sorted(info["missing_keys"]))


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Rows of like length, so many at once that padded they hold at most `budget` tokens, or one alone.

    The longest come first: memory that is too small shows at once.
    """
    waiting = sorted(range(len(lengths)), key=lengths.__getitem__)
    while waiting:
        size = max(1, budget // max(1, lengths[waiting[-1]]))
        batch, waiting = waiting[-size:], waiting[:-size]
        yield batch


def free() -> None:
    """Give back the memory of models that nobody refers to any more."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
