"""The embedded engine where vLLM is absent: transformers in this process, on a CPU or one GPU.

Slower than vLLM on a GPU, at home wherever torch runs; the same requests mean the same in both.
"""

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline import torch_model
from pipeline.component import Knob
from pipeline.engines.base import Engine
from pipeline.engines.transformers_session import TransformersSession
from pipeline.errors import ModelError
from pipeline.models import find
from pipeline.torch_model import DType, number_format


class Transformers(Engine):
    """Hugging Face transformers in this process (CPU or one GPU), where vLLM is absent."""

    kind: Literal["transformers"] = "transformers"
    dtype: DType = "auto"
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
        return {
            "engine": "transformers",
            "model": model.name,
            "revision": model.revision,
            "dtype": number_format(self.dtype),
        }

    def open(self, log: Path | None = None) -> TransformersSession:
        """Load the model."""
        model = find(self.model, self.revision)
        dtype = number_format(self.dtype)
        loaded, tokenizer, _ = torch_model.load(model, self.revision, dtype, "AutoModelForCausalLM", log)
        lacks = "a fast tokenizer" if not tokenizer.is_fast else ""
        if "past_key_values" not in inspect.signature(loaded.forward).parameters:
            lacks = "a cache of keys and values"
        if lacks:
            raise ModelError(f"{model.name} has not {lacks}, which this engine needs", hint="try the vllm engine")
        most = getattr(loaded.config.get_text_config(), "max_position_embeddings", None)
        if most and self.max_model_len > most:
            raise ModelError(
                f"max_model_len {self.max_model_len} passes the {most} positions of {model.name}",
                hint=f"set max_model_len: {most}, or less",
            )
        return TransformersSession(loaded, tokenizer, self.max_model_len, self.batch_tokens, log)
