"""The teacher's engine: vLLM in this process, fed continuously.

Requests are handed over as earlier ones finish (never in blocks), each with its own seed. On a machine
without a GPU the engine picks threads, cache, dtype and eager mode by itself; whatever the plan sets in
`engine` goes through to vLLM under vLLM's own names and wins. vLLM's log goes to a file.
"""

import gc
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline import console, machine
from pipeline.component import Knob
from pipeline.engines.base import Answered, Completion, Engine, Request, Source
from pipeline.engines.chat import token_ids
from pipeline.engines.trace import Trace
from pipeline.errors import ModelError
from pipeline.models import Model, find, parameters
from pipeline.records import digest

SHAPING = ("quantization", "seed", "tokenizer", "hf_overrides", "rope_scaling")


class Vllm(Engine):
    """vLLM's offline engine in this process (CPU or GPU)."""

    kind: Literal["vllm"] = "vllm"
    dtype: Annotated[str, Field(description="auto, float32, bfloat16...; auto is float32 on a CPU")] = "auto"
    max_model_len: Annotated[int, Field(ge=16, description="longest prompt + answer, in tokens")] = 4096
    max_num_seqs: Annotated[int, Knob(), Field(ge=1, description="sequences decoded at once")] = 64
    engine: Annotated[dict[str, Any], Knob(), Field(description="further vLLM engine arguments, as they are")] = {}

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

    def open(self, log: Path | None = None) -> "VllmSession":
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
            _refuse_too_large(model, arguments["dtype"])
            arguments |= _cpu_settings(self.max_model_len)
        return VllmSession(model, arguments | self.engine, log)


def _refuse_too_large(model: Model, dtype: str) -> None:
    """Weights and cache have to fit into free memory: the kernel would kill the run without a word."""
    weights = parameters(model.name, model.revision) * (4 if dtype == "float32" else 2)
    need = weights + machine.kv_cache_gib() * machine.GIB
    free = machine.memory_available()
    if free and need > free:
        raise ModelError(
            f"{model.name} needs about {need / machine.GIB:.1f} GiB in {dtype}, and {free / machine.GIB:.1f} are free",
            hint="take a smaller teacher, set teacher.dtype: bfloat16, or free memory",
        )


def _cpu_settings(max_model_len: int) -> dict[str, Any]:
    """Environment and arguments that vLLM's CPU build needs; the user's own environment wins.

    Prefills are not split over steps: vLLM 0.32 cannot rewind the generator of a seeded request on a CPU and dies.
    """
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(machine.kv_cache_gib()))
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", machine.cpu_list())
    return {
        "enforce_eager": True,  # compiling gains 7 % and costs 100 s at every start
        "gpu_memory_utilization": 0.3,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(4096, max_model_len),
    }


class VllmSession:
    """An open engine: an iterator over requests feeds it, finished answers come out at once."""

    def __init__(self, model: Model, arguments: dict[str, Any], log: Path | None) -> None:
        for name, value in (
            ("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),  # one process: nothing is orphaned when it is killed
            ("VLLM_NO_USAGE_STATS", "1"),
            ("DO_NOT_TRACK", "1"),
            ("TOKENIZERS_PARALLELISM", "false"),
        ):
            os.environ.setdefault(name, value)
        self.model = model
        self._log = log
        self._ahead = 2 * int(arguments["max_num_seqs"])
        with console.silenced(log):
            try:
                from vllm import LLM
            except ImportError as error:
                raise ModelError(f"vLLM is not installed ({error})", hint="`pipeline doctor` says how") from error
            try:
                self.llm: Any = LLM(**arguments)
            except (ValueError, RuntimeError, OSError, MemoryError, TypeError) as error:
                raise ModelError(_why(model, error, log), hint=_what_to_do(error)) from error
        self._tokenizer = self.llm.get_tokenizer()
        self._running: dict[str, tuple[Request, deque[Answered]]] = {}
        self._serial = 0
        self._limit = int(self.llm.model_config.max_model_len)

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """Keep the engine full; yield answers as soon as their last token is there.

        Several calls may be under way at once (two judges in one chain): each gets its own answers.
        """
        source = Source(requests)
        ready: deque[Answered] = deque()
        mine: set[str] = set()
        try:
            while True:
                while len(mine) < self._ahead and (request := source.next()) is not None:
                    if serial := self._submit(request, ready):
                        mine.add(serial)
                if ready or not mine:
                    finished = list(ready)
                    ready.clear()
                    yield finished
                if not mine:
                    if source.exhausted:
                        return
                    continue
                self._step()
                mine.intersection_update(self._running)
        finally:
            if mine:  # the caller stopped early: drop what is still being decoded
                with console.silenced(self._log):
                    self.llm.llm_engine.abort_request(list(mine))
                for serial in mine:
                    self._running.pop(serial, None)

    def _step(self) -> None:
        """Decode one token of everything that runs; hand finished answers to whoever asked."""
        with console.silenced(self._log):
            try:
                outputs = self.llm.llm_engine.step()
            except Exception as error:  # the engine is gone, whatever the reason
                raise ModelError(
                    f"vLLM died while it decoded {len(self._running)} requests: {' '.join(str(error).split())[:300]}",
                    hint=f"its log is {self._log}; the same command goes on from what was answered",
                ) from error
        for output in outputs:
            if output.finished:
                request, owner = self._running.pop(output.request_id)
                owner.append(Answered(request, _completion(output, request)))

    def _submit(self, request: Request, ready: deque[Answered]) -> str:
        """Hand one request to the engine and return its serial; one that cannot be asked is ready, failed."""
        try:
            ids = token_ids(self._tokenizer, request)
        except Exception as error:  # a chat template is code of the model's maker: any error is its own
            ready.append(Answered(request, Completion(error=f"chat template: {error}")))
            return ""
        if len(ids) + request.sampling.max_tokens > self._limit:
            problem = (
                f"a prompt of {len(ids)} tokens and max_tokens {request.sampling.max_tokens} "
                f"pass max_model_len {self._limit}"
            )
            ready.append(Answered(request, Completion(error=problem)))
            return ""
        self._serial += 1
        serial = str(self._serial)
        with console.silenced(self._log):
            try:
                self.llm.llm_engine.add_request(serial, {"prompt_token_ids": ids}, _params(request))
            except ValueError as error:
                ready.append(Answered(request, Completion(error=" ".join(str(error).split())[:400])))
                return ""
        self._running[serial] = (request, ready)
        return serial

    def close(self) -> None:
        """Drop the engine and give its memory back."""
        if getattr(self, "llm", None) is None:
            return
        with console.silenced(self._log):
            import torch
            from vllm.distributed import destroy_distributed_environment, destroy_model_parallel

            self.llm.llm_engine.engine_core.shutdown()
            self.llm = None
            gc.collect()
            destroy_model_parallel()
            destroy_distributed_environment()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _params(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    structured = None
    if request.choices:
        structured = StructuredOutputsParams(choice=list(request.choices))
    elif request.json_schema is not None:
        structured = StructuredOutputsParams(json=request.json_schema)
    sampling = request.sampling.model_dump()
    sampling["stop"] = list(sampling["stop"]) or None
    return SamplingParams(
        **sampling,
        seed=request.seed,
        logprobs=max(request.logprobs, request.top_logprobs) or None,
        structured_outputs=structured,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(output: Any, request: Request) -> Completion:
    answer = output.outputs[0]
    first: dict[str, float] = {}
    if request.logprobs and answer.logprobs:
        for entry in answer.logprobs[0].values():
            text = entry.decoded_token or ""
            first[text] = max(entry.logprob, first.get(text, -1e30))
    return Completion(
        text=answer.text,
        finish_reason=answer.finish_reason or "",
        prompt_tokens=len(output.prompt_token_ids or ()),
        completion_tokens=len(answer.token_ids),
        logprobs={k: v for k, v in first.items() if v > -1e30},
        trace=_trace(answer, request.top_logprobs) if request.top_logprobs else None,
    )


def _trace(answer: Any, k: int) -> Trace:
    steps = answer.logprobs or []
    chosen = [step[token].logprob for token, step in zip(answer.token_ids, steps, strict=True)]
    return Trace.pack(k, answer.token_ids, chosen, [[(t, e.logprob) for t, e in step.items()] for step in steps])


def _why(model: Model, error: Exception, log: Path | None) -> str:
    text = " ".join(str(error).split())
    where = f"; vLLM's log is {log}" if log else ""
    return f"vLLM cannot load {model.name}: {text[:400]}{where}"


def _what_to_do(error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, MemoryError) or "memory" in text:
        return "lower max_model_len or max_num_seqs, or free memory; `pipeline doctor` shows what there is"
    if "max_model_len" in text or "max_position_embeddings" in text:
        return "lower teacher.max_model_len to what the model takes"
    return "`pipeline doctor` shows what this machine can run"
