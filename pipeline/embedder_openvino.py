"""The transformer of an embedding model in OpenVINO, in float32 or in 8 bits.

sentence-transformers has backends of its own for ONNX and OpenVINO, by way of optimum, which does not run beside
transformers 5. Only the transformer is converted; tokenizer and pooling stay. 8 bits here means weights with a scale a
row, and activations with one for each `GROUP` numbers of a token, found as they come: no texts are needed to calibrate
it, and a text's vector does not hang on the texts beside it, as it does with ONNX Runtime's one scale for a batch.
"""

import importlib
import sys
from typing import Any

from pipeline.errors import ModelError

GROUP = 64  # 32 is a tenth slower, 128 no faster
AGREE = 0.95  # least cosine to torch's vector: a conversion that went wrong is far below
PROBES = [
    "A fox.",
    "Der Mond, 달, 月",
    "A fox found a boat on the shore and rowed it home before the moon was up. " * 8,
]


def convert(model: Any, name: str, *, int8: bool) -> None:
    """Put OpenVINO in the place of the transformer of a sentence-transformers model. Raises ModelError."""
    import numpy as np

    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports each import otherwise
    libraries = _library("openvino"), _library("nncf") if int8 else None
    before = model.encode(PROBES, normalize_embeddings=True)
    try:
        model[0].model = _compiled(model, *libraries)
        after = model.encode(PROBES, normalize_embeddings=True)
    except Exception as error:  # other libraries' code on a model of any maker
        why = " ".join(str(error).split())[:400]
        raise ModelError(f"OpenVINO cannot run {name}: {why}", hint="backend: torch") from error
    cosine = float(np.min(np.sum(before * after, axis=1)))
    if not cosine >= AGREE:
        raise ModelError(f"in OpenVINO {name} gives other vectors: cosine {cosine:.2f}", hint="backend: torch")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"{name} is not installed ({error})", hint="pip install 'pipeline[openvino]'") from error


def _compiled(model: Any, openvino: Any, nncf: Any) -> Any:
    """The transformer as a torch module that asks OpenVINO; in 8 bits where `nncf` is given."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    example = {name: value for name, value in model.preprocess(PROBES).items() if isinstance(value, torch.Tensor)}
    graph = openvino.convert_model(model[0].model, example_input=example)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    if nncf is not None:
        graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
        settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = GROUP
    compiled = openvino.Core().compile_model(graph, "CPU", settings)

    class Transformer(torch.nn.Module):  # type: ignore[misc]
        """In the place of transformers' own."""

        config = model[0].model.config

        def forward(self, **features: Any) -> BaseModelOutput:
            """The last layer's states, shape (texts, tokens, D)."""
            given = {put.any_name: features[put.any_name].numpy() for put in compiled.inputs}
            return BaseModelOutput(last_hidden_state=torch.from_numpy(compiled(given)["last_hidden_state"]))

    return Transformer()
