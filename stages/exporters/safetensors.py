"""The student as transformers, vLLM, SGLang and TGI load it."""

from collections.abc import Mapping
from pathlib import Path

from stages.exporters.base import TOKENIZER, Finished, Form, Reader
from stages.exporters.torch_reader import TorchReader, load


class Safetensors(Form):
    """Whole weights as they were trained, adapters merged into them."""

    name = "safetensors"

    def require(self, student: Finished) -> None:
        """Every student has this form."""

    def write(self, student: Finished, folder: Path, whole: Mapping[str, Path]) -> str:
        """A copy of weights, configuration and tokenizer."""
        student.copy(folder, "*.safetensors", "*.json", *TOKENIZER)
        return (
            f"Weights as they were trained.\n\n```bash\nvllm serve . --served-model-name {student.name}\n```\n\n"
            '```python\nmodel = transformers.AutoModelForCausalLM.from_pretrained(".")\n```'
        )

    def open(self, student: Finished, folder: Path) -> Reader:
        """With transformers."""
        return TorchReader(load(folder, use_safetensors=True))
