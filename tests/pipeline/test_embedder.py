"""The embedder: unit vectors, sentence-transformers' own, whatever stands beside a text; and errors in words."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from filters.rephrased import Rephrased
from pipeline.embedder import Embedder
from pipeline.errors import ModelError
from tests.stages import tiny

WORDS = tiny.WORDS
TEXTS = [" ".join(WORDS[(n * 7 + i) % len(WORDS)] for i in range(1 + n % 40)) for n in range(30)] + ["", "?"]
OPENVINO = [
    pytest.param(backend, marks=pytest.mark.skipif(not importlib.util.find_spec(need), reason=f"{need} is optional"))
    for backend, need in (("openvino", "openvino"), ("openvino_int8", "nncf"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights with mean pooling, in float16, as sentence-transformers saves it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    path = tmp_path_factory.mktemp("embedder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=4 + len(WORDS), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, initializer_range=0.3, pad_token_id=0,
    )  # fmt: skip
    BertModel(config).half().save_pretrained(path / "bert")
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 48
    tokenizer.save_pretrained(path / "bert")
    parts = [Transformer(str(path / "bert")), Pooling(64)]
    SentenceTransformer(modules=parts, device="cpu").half().save(str(path / "model"))
    return path / "model"


def vectors(folder: Path, texts: list[str] = TEXTS, **settings: Any) -> Any:
    encoder = Embedder(model=str(folder), **settings).open()
    found = encoder.encode(texts)
    encoder.close()
    return found


@pytest.mark.slow
def test_vectors_are_sentence_transformers_own(folder: Path) -> None:
    """In float32 on a CPU whatever the files hold; of unit length; none for no text."""
    import torch
    from sentence_transformers import SentenceTransformer

    found = vectors(folder)
    own = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"}).float()
    expected = own.encode(TEXTS, normalize_embeddings=True)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 64)
    assert vectors(folder, []).shape == (0, 64)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    if not torch.cuda.is_available():
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(np.unique(found.round(4), axis=0)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", *OPENVINO])
def test_what_stands_beside_a_text_changes_nothing(folder: Path, backend: str) -> None:
    """Alone, in another order, in smaller batches: the vector is the same, in 8 bits too."""
    encoder = Embedder(model=str(folder), backend=backend).open()
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    backwards = encoder.encode(TEXTS[::-1])[::-1]
    few = vectors(folder, backend=backend, batch_size=3)
    for other in (alone, backwards, few):
        assert np.abs(together - other).max() < 1e-5


@pytest.mark.slow
def test_texts_of_like_length_are_read_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By tokens: long words make as many characters of a fifth of the tokens."""
    encoder = Embedder(model=str(folder), batch_size=4).open()
    four, five, twenty = (" ".join([word] * n) for word, n in (("assistant", 4), ("me", 5), ("a", 20)))
    assert len(four) == len(twenty)
    read: list[list[str]] = []
    encode = encoder._model.encode

    def noted(batch: list[str], **more: Any) -> Any:
        read.append(batch)
        return encode(batch, **more)

    monkeypatch.setattr(encoder._model, "encode", noted)
    found = encoder.encode([four, five, twenty] * 5)
    if encoder._model.device.type == "cpu":
        assert read == [[twenty] * 4, [twenty], [five] * 4, [five], [four] * 4, [four]]
    else:
        assert read == [[twenty] * 4, [twenty, *[five] * 3], [five, five, four, four], [four] * 3]
    assert np.abs(found[0] - found[3]).max() < 1e-6 and np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("backend", OPENVINO)
def test_openvino_gives_torchs_vectors(folder: Path, backend: str) -> None:
    """To float noise in float32; in 8 bits other ones, near to them."""
    cosines = (vectors(folder) * vectors(folder, backend=backend)).sum(1)
    if backend == "openvino":
        assert cosines.min() > 0.99999
    else:
        assert 0.97 < cosines.min() < 0.99999


@pytest.mark.slow
@pytest.mark.parametrize("backend", OPENVINO)
def test_openvino_that_is_wrong_is_refused(folder: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion is held against torch before it is used."""
    from pipeline import embedder_openvino

    compiled = embedder_openvino._compiled

    def wrong(*given: Any) -> Any:
        made = compiled(*given)
        forward = made.forward

        def shuffled(**features: Any) -> Any:
            return forward(**features | {"input_ids": features["input_ids"].flip(1)})

        made.forward = shuffled
        return made

    monkeypatch.setattr(embedder_openvino, "PROBES", ["a fox ran home .", "the moon", "tell me about the bear"])
    monkeypatch.setattr(embedder_openvino, "_compiled", wrong)
    with pytest.raises(ModelError, match="gives other vectors: cosine"):
        vectors(folder, backend=backend)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is optional")
def test_what_openvino_cannot_run_is_one_message(tmp_path: Path) -> None:
    """A model that has no transformer."""
    from tests.stages import tiny_embedder

    static = tiny_embedder.folder(tmp_path, WORDS)
    assert vectors(static).shape == (len(TEXTS), tiny_embedder.WIDTH)
    with pytest.raises(ModelError, match="OpenVINO cannot run"):
        vectors(static, backend="openvino")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "openvino_int8"])
def test_openvino_that_is_missing_is_named(folder: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra to install."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"openvino is not installed(?s:.*)pipeline\[openvino\]"):
        vectors(folder, backend=backend)


@pytest.mark.slow
def test_what_is_not_finite_is_passed_on(folder: Path, tmp_path: Path) -> None:
    """Weights that are no numbers give a vector that is none, without a warning."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "broken")
    weights = load_file(tmp_path / "broken/model.safetensors")
    weights["embeddings.word_embeddings.weight"][4 + WORDS.index("fox")] = float("nan")
    save_file(weights, tmp_path / "broken/model.safetensors", metadata={"format": "pt"})
    found = vectors(tmp_path / "broken", ["a fox", "a bear"])
    assert np.isfinite(found).all(axis=1).tolist() == [False, True]


@pytest.mark.slow
def test_a_failure_under_way_is_one_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that runs out, say."""
    encoder = Embedder(model=str(folder)).open()

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(encoder._model, "encode", fails)
    with pytest.raises(ModelError, match=r"failed while it embedded: .*allocate(?s:.*)smaller batch_size"):
        encoder.encode(["a"])


def _broken(folder: Path, target: Path, how: str) -> Path:
    """The model with one thing wrong."""
    shutil.copytree(folder, target)
    modules = target / "modules.json"
    if how == "cut":
        (target / "model.safetensors").write_bytes((target / "model.safetensors").read_bytes()[:99])
    elif how == "pickle":
        import torch

        (target / "model.safetensors").unlink()
        torch.save({}, target / "pytorch_model.bin")
    elif how == "code":
        rows = json.loads(modules.read_text())
        rows[1]["type"] = "own_code.Pooling"
        modules.write_text(json.dumps(rows))
        (target / "own_code.py").write_text("raise SystemExit('was run')\n")
    else:
        modules.write_text("[{")
    return target


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "pickle", "code", "json"])
def test_what_cannot_be_loaded_is_one_message(folder: Path, tmp_path: Path, how: str) -> None:
    """Cut files, pickled weights, code beside the weights, broken JSON: refused, with the model's name."""
    model = _broken(folder, tmp_path / "broken", how)
    with pytest.raises(ModelError, match=f"cannot load the embedding model {model}: ."):
        vectors(model)


@pytest.mark.slow
def test_a_language_model_is_no_embedder(tmp_path: Path) -> None:
    """A head of its own would have to be made up."""
    with pytest.raises(ModelError, match=r"is no sentence-transformers model(?s:.*)modules\.json"):
        vectors(tiny.folder(tmp_path, layers=1))


def test_a_folder_without_a_model_is_named_when_it_is_needed(tmp_path: Path) -> None:
    """The plan can be checked before."""
    gone = Embedder(model=str(tmp_path))
    assert gone.identity()["model"] == str(tmp_path)
    assert gone.weights() == [(str(tmp_path), "")]
    with pytest.raises(ModelError, match=r"no config\.json in"):
        gone.open()
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        Embedder(model="some/model", revision="main").open()


def test_sentence_transformers_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra to install."""
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match=r"sentence-transformers is not installed(?s:.*)pipeline\[embed\]"):
        Embedder(model=str(tmp_path)).open()


def test_identity_counts_what_shapes_a_vector(tmp_path: Path) -> None:
    """The weights' content and the backend do; the batch size does not; a heir's own settings do."""
    for name, content in (("one", "{}"), ("other", "{ }")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    one, other = (Embedder(model=str(tmp_path / name)).identity() for name in ("one", "other"))
    assert one["weights"] != other["weights"]
    assert Embedder(model=str(tmp_path / "one"), batch_size=5).identity() == one
    assert Embedder(model=str(tmp_path / "one"), backend="openvino").identity() != one
    heir = Rephrased(model=str(tmp_path / "one"), min_cosine=0.9)
    assert heir.identity() == one | {"min_cosine": 0.9, "min_kept": 0.25}


def test_plans_of_before_load() -> None:
    """Every setting that a plan could name; others are refused."""
    old = {"model": "demo:all-minilm-l6-v2", "revision": "", "batch_size": 8}
    assert Embedder.model_validate(old).batch_size == 8
    assert Rephrased.model_validate(old | {"min_cosine": 0.7, "min_kept": 0}).min_cosine == 0.7
    for wrong in ({"backend": "onnx"}, {"batch_size": 0}, {"int8": True}):
        with pytest.raises(ValidationError):
            Embedder.model_validate(wrong)
