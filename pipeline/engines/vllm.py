"""The teacher's engine: vLLM in this process, fed continuously.

Requests are handed over as earlier ones finish (never in blocks), each with its own seed. On a machine
without a GPU the engine picks threads, cache, dtype and eager mode by itself; whatever the plan sets in
`engine` goes through to vLLM under vLLM's own names and wins. vLLM's log goes to a file.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pipeline import console, machine
from pipeline.component import Knob
from pipeline.engines.base import Engine
from pipeline.engines.vllm_session import VllmSession
from pipeline.models import find, refuse_too_large
from pipeline.records import digest

SHAPING = ("quantization", "seed", "tokenizer", "hf_overrides", "rope_scaling")


class Vllm(Engine):
    """vLLM's offline engine in this process (CPU or GPU)."""

    kind: Literal["vllm"] = "vllm"
    dtype: Annotated[str, Field(description="auto, float32, bfloat16...; auto is float32 on a CPU")] = "auto"
    max_model_len: Annotated[int, Field(ge=16, description="longest prompt + answer, in tokens")] = 4096
    max_num_seqs: Annotated[int, Knob(), Field(ge=1, description="sequences decoded at once")] = 64
    engine: Annotated[dict[str, Any], Knob(), Field(description="further vLLM engine arguments, as they are")] = {}

    @field_validator("engine")
    @classmethod
    def _one_replica(cls, engine: dict[str, Any]) -> dict[str, Any]:
        if (replicas := engine.get("data_parallel_size", 1)) != 1:
            raise ValueError(
                f"in one process vLLM runs one replica, not data_parallel_size {replicas}: start `vllm serve MODEL "
                f"--data-parallel-size {replicas}` and ask that server with `teacher: {{kind: openai, base_url: ...}}`"
            )
        return engine

    def identity(self) -> dict[str, Any]:
        """`max_model_len` decides which requests are refused, so versions count it; answers do not depend on it."""
        return super().identity() | {"max_model_len": self.max_model_len}

    def words(self) -> dict[str, str]:
        """Model, revision and number format; engine arguments count where they shape the output."""
        model = find(self.model, self.revision)
        shaping = {k: v for k, v in self.engine.items() if k in SHAPING}
        words = {"engine": "vllm", "model": model.name, "revision": model.revision, "dtype": self._dtype()}
        return words | ({"shaping": digest(shaping)} if shaping else {})

    def _dtype(self) -> str:
        return "float32" if self.dtype == "auto" and not machine.gpus() else self.dtype

    def _workers(self) -> int:
        return int(self.engine.get("tensor_parallel_size", 1)) * int(self.engine.get("pipeline_parallel_size", 1))

    def open(self, log: Path | None = None) -> VllmSession:
        """Load the model; takes 20 s on a small CPU machine, most of it imports."""
        model = find(self.model, self.revision)
        arguments: dict[str, Any] = {
            "model": model.where,
            "dtype": self._dtype(),
            "max_model_len": self.max_model_len,
            "max_num_seqs": self.max_num_seqs,
            "enable_prefix_caching": True,
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            "disable_log_stats": True,
            "load_format": "safetensors",  # never a pickle
        }
        if not model.local and self.revision:
            arguments["revision"] = self.revision
        if not machine.gpus():
            if self.engine.get("speculative_config"):
                console.warn("with a draft model vLLM's CPU build is right at temperature 0 only (vllm issue 55005)")
            refuse_too_large(model, arguments["dtype"])
            arguments |= _cpu_settings(self.max_model_len, self._workers())
        return VllmSession(model, arguments | self.engine, log)


def _cpu_settings(max_model_len: int, workers: int) -> dict[str, Any]:
    """Environment and arguments that vLLM's CPU build needs; the user's own environment wins.

    Prefills are not split over steps: vLLM 0.32 cannot rewind the generator of a seeded request on a CPU and dies.
    """
    if workers == 1:  # several: vLLM gives each the cores of a memory node
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", machine.cpu_list())
    return {
        "enforce_eager": True,  # compiling gains 7 % and costs 100 s at every start
        "kv_cache_memory_bytes": machine.kv_cache_gib() * machine.GIB,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(4096, max_model_len),
    }
