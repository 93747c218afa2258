"""The teacher's log-probabilities beside the shards, for soft-label training later.

`logprobs-00000.safetensors` holds, for rows 0..n-1 whose ids are in the metadata (`ids`, a JSON list), the tensors
`offsets` int64 [n+1] (row i owns tokens offsets[i] to offsets[i+1]), `tokens` int32 [T], `logprobs` float32 [T] (of
the chosen tokens), `top_tokens` int32 [T, k] and `top_logprobs` float16 [T, k] (likeliest first, natural logarithm).
"""

from pathlib import Path
from typing import Any

import orjson

from pipeline.engines.trace import Trace

FULL = 64 << 20  # bytes of tensors after which a file is written


class Sidecar:
    """Collects traces and writes them in files of bounded size."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder, self._model, self._files = folder, model, 0
        self._clear()

    def _clear(self) -> None:
        self._ids: list[str] = []
        self._traces: list[Trace] = []
        self._bytes = 0

    def add(self, record_id: str, trace: Trace) -> None:
        """One row's tokens."""
        if self._traces and trace.k != self._traces[0].k:
            self.close()
        self._ids.append(record_id)
        self._traces.append(trace)
        self._bytes += sum(
            len(part) * 3 // 4 for part in (trace.tokens, trace.chosen, trace.top_tokens, trace.top_logprobs)
        )
        if self._bytes >= FULL:
            self.close()

    def close(self) -> None:
        """Write what is left."""
        if not self._traces:
            return
        from safetensors.numpy import save_file

        k = self._traces[0].k
        path = self._folder / f"logprobs-{self._files:05d}.safetensors"
        about = {"ids": orjson.dumps(self._ids).decode(), "model": self._model, "k": str(k), "format": "1"}
        save_file(_tensors(self._traces, k), path, metadata=about)
        self._files += 1
        self._clear()


def _tensors(traces: list[Trace], k: int) -> dict[str, Any]:
    import numpy as np

    rows = [trace.arrays() for trace in traces]
    lengths = [len(tokens) for tokens, *_ in rows]
    joined = [np.concatenate([row[n] for row in rows]) for n in range(4)]
    return {
        "offsets": np.cumsum([0, *lengths], dtype=np.int64),
        "tokens": joined[0],
        "logprobs": joined[1],
        "top_tokens": joined[2].reshape(-1, k),
        "top_logprobs": joined[3].reshape(-1, k),
    }
