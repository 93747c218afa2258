"""The ONNX graph alone: names, open sizes, its cache, and what 8 bits do to it."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.run import Run
from stages.exporters.base import Finished
from stages.exporters.onnx import Onnx, OnnxReader
from stages.exporters.onnx_int8 import BLOCK, OnnxInt8, quantise
from tests.stages import students

pytestmark = pytest.mark.slow
IDS = [5, 9, 40, 41, 7, 100, 101, 33, 60]


def student(folder: Path, **more: Any) -> Finished:
    """A version in `folder`."""
    version = students.finish(Run(folder / "runs/tiny"), students.model(**more), students.tokenizer())
    return Finished(version, "tiny")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with tied embeddings as ONNX."""
    folder = tmp_path_factory.mktemp("onnx")
    Onnx().write(student(folder), folder, {})
    return folder / "model.onnx"


def logits(**more: Any) -> Any:
    """What torch says to IDS."""
    import torch

    with torch.no_grad():
        return students.model(**more)(torch.tensor([IDS])).logits[0].numpy()


def test_inputs_and_outputs_have_their_customary_names(graph: Path) -> None:
    """As optimum and transformers.js know them, every size open but heads and width."""
    session = OnnxReader(graph).session
    inputs = {i.name: i.shape for i in session.get_inputs()}
    outputs = {o.name: o.shape for o in session.get_outputs()}
    cache = [f"{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]
    assert list(inputs) == ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{c}" for c in cache)]
    assert list(outputs) == ["logits", *(f"present.{c}" for c in cache)]
    assert inputs["input_ids"] == inputs["position_ids"] == ["batch", "sequence"]
    assert inputs["attention_mask"] == ["batch", "total"]
    assert inputs["past_key_values.0.key"] == ["batch", 2, "past", 16]
    assert outputs["logits"] == ["batch", "sequence", 331]
    assert outputs["present.1.value"] == ["batch", 2, "total", 16]


@pytest.mark.parametrize("cut", [1, 4, len(IDS) - 1])
def test_the_cache_stands_for_the_tokens_before(graph: Path, cut: int) -> None:
    """A prompt, then the rest, one token or many, gives what all at once gives."""
    import numpy as np

    reader = OnnxReader(graph)
    first = reader.read(IDS[:cut])
    said = np.concatenate([first.logits, reader.read(IDS[cut:], first.past).logits])
    assert np.abs(said - logits()).max() < 1e-4


def test_a_padded_row_is_the_row_alone(graph: Path) -> None:
    """In a batch with a longer one, padded on the left, masked and counted, a row says the same."""
    import numpy as np

    session = OnnxReader(graph).session
    pad = 4
    feeds = {
        "input_ids": np.array([[0] * pad + IDS, [*IDS[::-1], 1, 2, 3, 4]]),
        "attention_mask": np.array([[0] * pad + [1] * len(IDS), [1] * (len(IDS) + pad)]),
        "position_ids": np.array([[0] * pad + list(range(len(IDS))), range(len(IDS) + pad)]),
    } | {
        f"past_key_values.{n}.{kind}": np.zeros((2, 2, 0, 16), np.float32) for n in (0, 1) for kind in ("key", "value")
    }
    (said,) = session.run(["logits"], feeds)
    assert np.abs(said[0, pad:] - logits()).max() < 1e-4
    assert not np.isnan(said).any()


def test_an_embedding_that_is_the_head_too_is_stored_once(graph: Path, tmp_path: Path) -> None:
    """Of 8 bits, and read by both."""
    import onnx

    quantise(graph, tmp_path / "model.onnx")
    made = onnx.load(tmp_path / "model.onnx").graph
    large = [
        i for i in made.initializer if i.data_type == onnx.TensorProto.FLOAT and len(i.dims) == 2 and i.dims[1] > 8
    ]
    assert large == []
    embeddings = [i.name for i in made.initializer if i.dims and i.dims[0] == 331 and len(i.dims) == 3]
    assert len(embeddings) == 1
    assert {n.op_type for n in made.node if embeddings[0] in n.input} == {"Reshape", "MatMulNBits"}
    assert [n.op_type for n in made.node].count("GatherBlockQuantized") == 1
    assert not any(n.op_type == "MatMul" and n.name.startswith("node_linear") for n in made.node)


@pytest.mark.parametrize("more", [{"tie_word_embeddings": False}, {"hidden_size": 48, "head_dim": 12}])
def test_other_shapes_in_8_bits(tmp_path: Path, more: dict[str, Any]) -> None:
    """A head of its own, and a width that blocks do not divide: the student is still recognised."""
    import numpy as np

    assert BLOCK == 32
    OnnxInt8().write(student(tmp_path, **more), tmp_path, {})
    said, ours = OnnxReader(tmp_path / "model.onnx").read(IDS).logits, logits(**more)
    assert np.corrcoef(said.ravel(), ours.ravel())[0, 1] > 0.99


def test_another_cache_is_refused(tmp_path: Path) -> None:
    """Layers that look at a window have no place in the graph."""
    made = student(tmp_path)
    made.config["layer_types"] = ["full_attention", "sliding_attention"]
    with pytest.raises(UsageError, match="another cache than full attention: sliding_attention"):
        OnnxInt8().require(made)
