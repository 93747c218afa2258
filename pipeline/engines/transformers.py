"""The embedded engine where vLLM is absent: transformers in this process, on a CPU or one GPU.

Slower than vLLM on a GPU, at home wherever torch runs; the same requests mean the same in both.
"""

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline import console, machine
from pipeline.component import Knob
from pipeline.engines.base import Engine
from pipeline.engines.transformers_session import TransformersSession
from pipeline.errors import ModelError
from pipeline.models import Model, find, refuse_too_large


class Transformers(Engine):
    """Hugging Face transformers in this process (CPU or one GPU), where vLLM is absent."""

    kind: Literal["transformers"] = "transformers"
    dtype: Annotated[str, Field(description="auto, float32, bfloat16...; auto is float32 on a CPU")] = "auto"
    max_model_len: Annotated[int, Field(ge=16, description="longest prompt + answer, in tokens")] = 4096
    batch_tokens: Annotated[
        int,
        Knob(),
        Field(ge=1, description="tokens of the answers under way, prompts and room for max_tokens included"),
    ] = 16384

    def identity(self) -> dict[str, Any]:
        """`max_model_len` decides which requests are refused, so versions count it; answers do not depend on it."""
        return super().identity() | {"max_model_len": self.max_model_len}

    def words(self) -> dict[str, str]:
        """Model, revision and number format."""
        model = find(self.model, self.revision)
        return {"engine": "transformers", "model": model.name, "revision": model.revision, "dtype": self._dtype()}

    def _dtype(self) -> str:
        return "float32" if self.dtype == "auto" and not machine.gpus() else self.dtype

    def open(self, log: Path | None = None) -> TransformersSession:
        """Load the model."""
        model = find(self.model, self.revision)
        if not machine.gpus():
            refuse_too_large(model, self._dtype())
        with console.silenced(log):
            loaded, tokenizer = _load(model, self.revision, self._dtype())
        most = getattr(loaded.config.get_text_config(), "max_position_embeddings", None)
        if most and self.max_model_len > most:
            raise ModelError(
                f"max_model_len {self.max_model_len} passes the {most} positions of {model.name}",
                hint=f"set max_model_len: {most}, or less",
            )
        return TransformersSession(loaded, tokenizer, self.max_model_len, self.batch_tokens, log)


def _load(model: Model, revision: str, dtype: str) -> tuple[Any, Any]:
    """Model and tokenizer, on the GPU where there is one. Raises ModelError."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        hint = "pip install 'pipeline[transformers]'"
        raise ModelError(f"transformers is not installed ({error})", hint=hint) from error
    where = {"trust_remote_code": False} | ({} if model.local or not revision else {"revision": revision})
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ModelError(f"no such dtype: {dtype}", hint="auto, float32, bfloat16 or float16")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.where, **where)
        loaded = AutoModelForCausalLM.from_pretrained(model.where, dtype=dtype, use_safetensors=True, **where)
        loaded = loaded.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    except (OSError, ValueError, KeyError, RuntimeError, MemoryError, ImportError) as error:
        raise ModelError(f"transformers cannot load {model.name}: {' '.join(str(error).split())[:400]}") from error
    lacks = "a fast tokenizer" if not tokenizer.is_fast else ""
    if "past_key_values" not in inspect.signature(loaded.forward).parameters:
        lacks = "a cache of keys and values"
    if lacks:
        raise ModelError(f"{model.name} has not {lacks}, which this engine needs", hint="try the vllm engine")
    return loaded, tokenizer
