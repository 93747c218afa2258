"""The student as one ONNX graph with its cache: for prompts and for one token after the other alike.

Inputs `input_ids`, `attention_mask`, `position_ids` and `past_key_values.N.key`, `.value`; outputs `logits` and
`present.N.key`, `.value`: the names that optimum and transformers.js give them. Batch, new tokens and cached tokens
may be any number; with nothing cached (length 0) it reads a prompt.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import machine
from pipeline.errors import ModelError, UsageError
from stages.exporters.base import SETTINGS, TOKENIZER, Finished, Form, Read, Reader
from stages.exporters.torch_reader import load

FILE = "model.onnx"
CACHE = re.compile(r"past_key_values\.layers\.(\d+)\.(key|value)s$")


class Onnx(Form):
    """Exported by transformers (torch.export) in float32."""

    name = "onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def require(self, student: Finished) -> None:
        """A cache that only grows: a graph has no place for windows and states."""
        layers = set(student.config.get("layer_types") or ["full_attention"])
        if layers != {"full_attention"}:
            raise UsageError(
                f"onnx: {student.sort} has layers with another cache than full attention: "
                f"{', '.join(sorted(layers - {'full_attention'}))}",
                hint="leave onnx out of --format",
            )

    def write(self, student: Finished, folder: Path, whole: Mapping[str, Path]) -> str:
        """Trace the model and write it, with configuration and tokenizer."""
        program = _trace(load(student.model, use_safetensors=True), student)
        program.save(folder / FILE)
        student.copy(folder, *SETTINGS, *TOKENIZER)
        return USE.format(format="float32")

    def open(self, student: Finished, folder: Path) -> Reader:
        """With onnxruntime."""
        return OnnxReader(folder / FILE)


USE = """\
ONNX in {format}, with its cache. Inputs: `input_ids`, `attention_mask` (cached and new tokens), `position_ids` and
`past_key_values.N.key`, `.value` (length 0 for a prompt); outputs: `logits` and `present.N.key`, `.value`, which are
the next step's `past_key_values`.

```python
session = onnxruntime.InferenceSession("model.onnx")
```"""


def _trace(model: Any, student: Finished) -> Any:
    """The graph of a forward pass over cached and new tokens, every length open. Raises ModelError."""
    import torch
    from transformers.exporters import OnnxConfig, OnnxExporter

    model = model.eval()
    with torch.no_grad():
        past = model(torch.zeros(2, 4, dtype=torch.long), use_cache=True).past_key_values
    open_ = torch.export.Dim.AUTO
    plain = {"input_ids": (2, 3), "attention_mask": (2, 7), "position_ids": (2, 3)}
    inputs = {name: torch.ones(shape, dtype=torch.long) for name, shape in plain.items()} | {"past_key_values": past}
    dynamic: dict[str, Any] = {name: {0: open_, 1: open_} for name in plain}
    dynamic["past_key_values"] = [{0: open_, 2: open_} for _ in range(2 * len(past))]
    try:
        with torch.no_grad():
            program = OnnxExporter().export(model, inputs, OnnxConfig(dynamic=True, dynamic_shapes=dynamic))
    except Exception as error:  # whatever torch and transformers think of
        raise ModelError(
            f"transformers cannot export {student.sort} to ONNX: {' '.join(str(error).split())[:300]}",
            hint="leave onnx and onnx_int8 out of --format",
        ) from error
    for value in program.model.graph.inputs:
        _name(value, "past_key_values", "past")
    for value in program.model.graph.outputs:
        _name(value, "present", "total")
    return program


def _name(value: Any, cache: str, length: str) -> None:
    """The customary name of an input or output, and names for its open sides."""
    from onnx_ir import Shape

    if found := CACHE.search(value.name):
        value.name = f"{cache}.{found[1]}.{found[2]}"
        value.shape = Shape(["batch", value.shape[1], length, value.shape[3]])
    elif value.name == "attention_mask":
        value.shape = Shape(["batch", "total"])
    else:
        value.shape = Shape(["batch", "sequence", *list(value.shape)[2:]])


class OnnxReader(Reader):
    """A session on the CPU."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = machine.cores()
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.cache = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values.")]
        self.outputs = ["logits", *(i.name.replace("past_key_values", "present") for i in self.cache)]

    def read(self, ids: list[int], past: Any = None) -> Read:
        """One run of the session."""
        import numpy as np

        if past is None:
            past = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32) for i in self.cache}
        had = next(iter(past.values())).shape[2]
        plain = {
            "input_ids": [ids],
            "attention_mask": np.ones((1, had + len(ids))),
            "position_ids": [range(had, had + len(ids))],
        }
        feeds = {name: np.asarray(value, dtype=np.int64) for name, value in plain.items()} | past
        logits, *present = self.session.run(self.outputs, feeds)
        return Read(logits[0], {i.name: array for i, array in zip(self.cache, present, strict=True)})
