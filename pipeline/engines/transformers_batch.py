"""Rows of a transformers model decoded together over one cache of keys and values."""

import inspect
from typing import Any

from pipeline.engines.sampler import Row, advance


class Batch:
    """Rows decoded together: left-padded, keys and values in one cache, the last token of each not yet in it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._takes = set(inspect.signature(model.forward).parameters)
        self.rows: list[Row] = []
        self._over: list[Row] = []
        self._cache: Any = None
        self._mask: Any = None

    @property
    def joinable(self) -> bool:
        """Whether rows can join those under way: not where layers keep a window or a state instead of all tokens."""
        from transformers.cache_utils import DynamicLayer

        return self._cache is None or all(type(layer) is DynamicLayer for layer in self._cache.layers)

    def clear(self) -> None:
        """Forget the rows and free their cache; what is over stays to be taken."""
        self.rows, self._cache, self._mask = [], None, None

    def taken(self) -> list[Row]:
        """What is over, once."""
        over = list(self._over)
        self._over.clear()
        return over

    def add(self, rows: list[Row]) -> None:
        """Read the prompts of new rows, give each its first token, and let them join."""
        import torch
        from transformers import DynamicCache

        other = Batch(self._model)
        width = max(row.length for row in rows)
        ids = torch.tensor([[0] * (width - row.length) + row.ids for row in rows], device=self._model.device)
        other._over = self._over  # what is over is kept, come what may
        other.rows, other._cache = rows, DynamicCache(config=self._model.config)
        other._mask = torch.tensor([[0] * (width - row.length) + [1] * row.length for row in rows], device=ids.device)
        other._forward(ids)
        if other.rows:
            self._join(other)

    def step(self) -> None:
        """One token more of every row."""
        import torch

        last = torch.tensor([[row.answer[-1]] for row in self.rows], device=self._model.device)
        self._mask = torch.cat([self._mask, torch.ones_like(last)], dim=1)
        self._forward(last)

    def _forward(self, ids: Any) -> None:
        import torch

        inputs = {
            "input_ids": ids,
            "attention_mask": self._mask,
            "position_ids": (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :],
            "past_key_values": self._cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        with torch.inference_mode():
            logits = self._model(**{name: value for name, value in inputs.items() if name in self._takes}).logits
            advance(logits[:, -1].float(), self.rows)
            self._drop()

    def _drop(self) -> None:
        """Take out rows that are over, and the padding that only they needed."""
        import torch

        self._over += [row for row in self.rows if row.over]
        going = [n for n, row in enumerate(self.rows) if not row.over]
        if not going:
            self.clear()
        elif len(going) < len(self.rows):
            self.rows = [self.rows[n] for n in going]
            kept = torch.tensor(going, device=self._mask.device)
            self._cache.reorder_cache(kept)
            self._mask = self._mask[kept]
            if self.joinable and (unused := int(self._mask.argmax(-1).min())):
                self._mask = self._mask[:, unused:]
                for layer in self._cache.layers:
                    layer.keys, layer.values = layer.keys[:, :, unused:], layer.values[:, :, unused:]

    def _join(self, other: "Batch") -> None:
        """Take over another batch's rows, the narrower of the two padded to the width of the wider."""
        import torch
        from torch.nn.functional import pad

        if not self.rows:
            self.rows, self._cache, self._mask = other.rows, other._cache, other._mask
            return
        width = max(self._mask.shape[1], other._mask.shape[1])
        both = [(batch, width - batch._mask.shape[1]) for batch in (self, other)]
        self._mask = torch.cat([pad(batch._mask, (more, 0)) for batch, more in both])
        for layer, joining in zip(self._cache.layers, other._cache.layers, strict=True):
            pairs = list(zip((layer, joining), both, strict=True))
            layer.keys = torch.cat([pad(part.keys, (0, 0, more, 0)) for part, (_, more) in pairs])
            layer.values = torch.cat([pad(part.values, (0, 0, more, 0)) for part, (_, more) in pairs])
        self.rows = self.rows + other.rows
