"""How far a student's attention is from its teacher's, query by query."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

from stages.objectives.layers import projections

LEAST = 1e-9  # of an attention weight, before its logarithm


class Listener:
    """Keeps what the chosen layers of a model made of their last input: queries, keys, values."""

    def __init__(self, model: Any, layers: Iterable[int]) -> None:
        self.heard: dict[int, dict[str, Any]] = {layer: {} for layer in layers}
        for layer, parts in self.heard.items():
            for name, module in projections(model, layer).items():
                module.register_forward_hook(partial(self._hear, parts, name))

    @staticmethod
    def _hear(parts: dict[str, Any], name: str, module: Any, inputs: Any, output: Any) -> None:
        parts[name] = output


def rows(ours: Any, theirs: Any) -> Any:
    """KL(teacher || student) of attention (rows, heads, length, length), averaged over heads: (rows, length)."""
    student, teacher = (weights.float().mean(1).clamp(min=LEAST) for weights in (ours, theirs))
    return (teacher * (teacher.log() - student.log())).sum(-1)


def relations(ours: dict[str, Any], theirs: dict[str, Any], heads: int, mask: Any) -> Any:
    """KL(teacher || student) of query, key and value relations, averaged over the three and their heads.

    `mask` (rows, length) is 0 for padding. Relations look back alone, as attention does. Gives (rows, length).
    """
    apart = [_kl(_related(theirs[name], heads, mask), _related(ours[name], heads, mask)) for name in ours]
    return torch.stack(apart).mean(0)


def _related(vectors: Any, heads: int, mask: Any) -> Any:
    """Log-softmax of scaled products (rows, heads, length, length) of vectors (rows, length, width)."""
    length, width = vectors.shape[1], vectors.shape[2] // heads
    split = vectors.float().unflatten(-1, (heads, width)).transpose(1, 2)
    products = split @ split.transpose(2, 3) / width**0.5
    seen = torch.ones(length, length, dtype=torch.bool, device=vectors.device).tril() & (mask[:, None, None] != 0)
    return products.masked_fill(~seen, torch.finfo(products.dtype).min).log_softmax(-1)


def _kl(teacher: Any, student: Any) -> Any:
    return (teacher.exp() * (teacher - student)).sum(-1).mean(1)
