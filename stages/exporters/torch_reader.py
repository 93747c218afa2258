"""Reads a transformers model: the original, and the forms that transformers loads."""

from pathlib import Path
from typing import Any

from stages.exporters.base import Read, Reader


class TorchReader(Reader):
    """A model in float32 on the CPU."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    def read(self, ids: list[int], past: Any = None) -> Read:
        """One forward pass."""
        import torch

        with torch.inference_mode():
            said = self.model(torch.tensor([ids]), past_key_values=past, use_cache=True)
        return Read(said.logits[0].float().numpy(), said.past_key_values)


def load(folder: Path, **more: Any) -> Any:
    """A causal language model of a folder, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **more)
