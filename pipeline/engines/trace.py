"""Log-probabilities of a whole answer, small enough to keep: little-endian arrays in base64.

For an answer of T tokens with k alternatives each, T x 4 + T x 4 + T x k x 6 bytes before base64. They travel in the
memo and end in a sidecar beside the shards (docs/records.md), from which a student learns soft labels offline.
"""

import base64
import math
import struct
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

FLOOR = -65504.0  # the lowest float16: what stands for "impossible"


class Trace(BaseModel):
    """`tokens` int32 [T], `chosen` float32 [T], `top_tokens` int32 [T, k], `top_logprobs` float16 [T, k].

    Row t of the last two holds the k likeliest tokens at place t, likeliest first; natural logarithms. The ids are
    those of the teacher's tokenizer, the end-of-turn token included where the answer ended by itself.
    """

    model_config = ConfigDict(frozen=True)

    k: int
    tokens: str
    chosen: str
    top_tokens: str
    top_logprobs: str

    @classmethod
    def pack(
        cls, k: int, tokens: Sequence[int], chosen: Sequence[float], top: Sequence[Sequence[tuple[int, float]]]
    ) -> "Trace":
        """`top[t]` holds (token id, log-probability) pairs, at least k of them where the vocabulary has so many."""
        ranked = [_ranked(pairs, k) for pairs in top]
        return cls(
            k=k,
            tokens=_pack("i", tokens),
            chosen=_pack("f", chosen),
            top_tokens=_pack("i", [token for row in ranked for token, _ in row]),
            top_logprobs=_pack("e", [logprob for row in ranked for _, logprob in row]),
        )

    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """The four as flat numpy arrays, in the order of the fields."""
        import numpy as np

        fields = ((self.tokens, "<i4"), (self.chosen, "<f4"), (self.top_tokens, "<i4"), (self.top_logprobs, "<f2"))
        a, b, c, d = (np.frombuffer(base64.b64decode(text), dtype=kind) for text, kind in fields)
        return a, b, c, d


def _ranked(pairs: Sequence[tuple[int, float]], k: int) -> list[tuple[int, float]]:
    """The k likeliest, likeliest first; filled up with impossible ones where there are fewer."""
    kept = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k]
    kept += [(-1, FLOOR)] * (k - len(kept))
    return [(token, logprob if math.isfinite(logprob) else FLOOR) for token, logprob in kept]


def _pack(code: str, values: Sequence[float]) -> str:
    clipped = [max(v, FLOOR) for v in values] if code in "fe" else values
    return base64.b64encode(struct.pack(f"<{len(clipped)}{code}", *clipped)).decode()
