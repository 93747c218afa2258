"""vLLM's engine in this process, loaded: prompts in under a serial, finished answers out, one step at a time.

It loads with half as many sequences where memory runs out, and can be opened again after it died. What died, whose
fault it was and who gets which answer is the session's business (`vllm_session.py`).
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import console
from pipeline.engines.base import Completion, Request
from pipeline.engines.exhausted import out_of_memory
from pipeline.engines.trace import Trace
from pipeline.errors import ModelError
from pipeline.models import Model

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process: nothing is orphaned when it is killed
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Core:
    """One loaded model. Any exception out of `add` and `step` means that the engine is gone."""

    def __init__(self, model: Model, arguments: dict[str, Any], log: Path | None) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self.model, self.log = model, log
        self._arguments = dict(arguments)
        self.llm: Any = None
        self.open()

    @property
    def max_num_seqs(self) -> int:
        """Sequences decoded at once; less than was asked for where memory ran out."""
        return int(self._arguments["max_num_seqs"])

    def open(self) -> None:
        """Load the model; where memory runs out, with half as many sequences, down to one. Raises ModelError."""
        last = None
        while True:
            failure = self._load()
            if failure is None:
                return
            # The same words, figures included, after halving: sequences are not what fills the memory.
            if failure == last or not self.halve(f"loading {self.model.name}", failure):
                raise failure.at_loading(self.model, self.log)
            last = failure

    def halve(self, doing: str, failure: "Failure") -> bool:
        """Take half as many sequences from now on and say so; False where that is no way out of `failure`."""
        if not failure.memory or self.max_num_seqs == 1:
            return False
        self._arguments["max_num_seqs"] = self.max_num_seqs // 2
        console.warn(
            f"memory ran out while {doing}; trying again with max_num_seqs {self.max_num_seqs}: {failure.text}"
        )
        return True

    def _load(self) -> "Failure | None":
        with console.silenced(self.log), _collecting_once():
            try:
                from vllm import LLM
            except ImportError as error:
                raise ModelError(f"vLLM is not installed ({error})", hint="`pipeline doctor` says how") from error
            gc.collect()
            gc.freeze()  # half a million objects of the imports, which vLLM would go through five times
            try:
                self.llm = LLM(**self._arguments)
            except (ValueError, RuntimeError, OSError, MemoryError, TypeError) as error:
                failure = Failure.of(error)
            else:
                return None
        self.close()  # outside the handler: the traceback held the half-made engine
        return failure

    def add(self, serial: str, ids: list[int], request: Request) -> str:
        """Hand a prompt over; why vLLM refuses it, or nothing."""
        from vllm.inputs import tokens_input

        try:
            self.llm.llm_engine.add_request(serial, tokens_input(ids), _params(request))
        except ValueError as error:
            return plain(error)
        return ""

    def step(self) -> list[tuple[str, Any]]:
        """Decode one token of everything that runs; what has finished, by serial."""
        return [(output.request_id, output) for output in self.llm.llm_engine.step() if output.finished]

    def abort(self, serials: list[str]) -> None:
        """Stop decoding; nothing is heard of them again."""
        with console.silenced(self.log), suppress(Exception):  # a dead engine decodes nothing anyway
            self.llm.llm_engine.abort_request(serials)

    def close(self) -> None:
        """Drop the engine, even a dead one, and give its memory back; safe to call twice."""
        llm, self.llm = self.llm, None
        with console.silenced(self.log):
            try:
                from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
            except ImportError:
                return
            with suppress(Exception):  # a dead engine may fail at this too
                if llm is not None:
                    llm.llm_engine.engine_core.shutdown()
            del llm
            with suppress(Exception):
                cleanup_dist_env_and_memory()


class Failure(NamedTuple):
    """What an engine died of; the exception itself would hold the engine's memory."""

    text: str
    memory: bool

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """From an exception; its causes count too, for vLLM wraps what its workers met."""
        chain = list(_causes(error))
        return cls(plain(error) or type(error).__name__, any(out_of_memory(e) for e in chain))

    def at_loading(self, model: Model, log: Path | None) -> ModelError:
        """The error that loading ends with."""
        where = f"; vLLM's log is {log}" if log else ""
        return ModelError(f"vLLM cannot load {model.name}: {self.text}{where}", hint=self._what_to_do())

    def _what_to_do(self) -> str:
        if self.memory:
            return "lower max_model_len or max_num_seqs, or free memory; `pipeline doctor` shows what there is"
        if "max_model_len" in self.text or "max_position_embeddings" in self.text:
            return "lower teacher.max_model_len to what the model takes"
        return "`pipeline doctor` shows what this machine can run"


def plain(error: BaseException) -> str:
    """An exception's text on one line."""
    return " ".join(str(error).split())[:400]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def _collecting_once() -> Iterator[None]:
    """Importing makes a million objects; collecting among them all the while takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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


def completion(output: Any, request: Request) -> Completion:
    """vLLM's finished output as a completion."""
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
