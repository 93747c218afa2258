"""GGUF: the weights in llama.cpp's order, the tokenizer under llama.cpp's name, and what is left to its converter."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.run import Run
from stages import export
from stages.exporters.base import Finished
from stages.exporters.gguf import Gguf, GgufQ8
from stages.exporters.gguf_vocab import CUTS, LETTERS, SIGNS, cut_of
from tests.stages import students, tiny

pytestmark = pytest.mark.slow
IDS = [5, 9, 40, 41, 7, 100, 101, 33, 60]


def student(folder: Path, model: Any, words: Any = None) -> Finished:
    """A version in `folder`."""
    version = students.finish(Run(folder / "runs/tiny"), model, words or students.tokenizer())
    return Finished(version, "tiny")


def contents(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and tensors of a file."""
    from gguf import GGUFReader  # type: ignore[attr-defined, unused-ignore]

    reader = GGUFReader(file)
    return {key: field.contents() for key, field in reader.fields.items()}, {t.name: t for t in reader.tensors}


def regexes(pattern: str) -> Any:
    """A pre-tokenizer that cuts by a regular expression."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@pytest.mark.parametrize(
    ("sort", "more"),
    [("Llama", {"tie_word_embeddings": False}), ("Llama", {"num_key_value_heads": 4}), ("Qwen2", {}),
     ("Qwen3", {"head_dim": 128})],
)  # fmt: skip
def test_the_weights_are_the_students(tmp_path: Path, sort: str, more: dict[str, Any]) -> None:
    """Loaded again they say the same: rows of Q and K, biases, norms of heads, a head of its own."""
    import torch

    model = students.model(sort, **more)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    form, made = Gguf(), student(tmp_path, model)
    form.require(made)
    form.write(made, tmp_path, {})
    with torch.no_grad():
        ours = model(torch.tensor([IDS])).logits[0].numpy()
    assert abs(form.open(made, tmp_path).read(IDS).logits - ours).max() < 0.3
    assert ours.std() > 1


def test_what_the_file_says(tmp_path: Path) -> None:
    """Shape, licence, tokenizer, special tokens and chat template, as llama.cpp reads them."""
    made = student(tmp_path, students.model())
    Gguf().write(made, tmp_path, {})
    said, tensors = contents(tmp_path / "model-f16.gguf")
    words = students.tokenizer()
    assert said["general.architecture"] == "llama"
    assert (said["general.license"], said["general.name"]) == ("apache-2.0", "tiny-student")
    assert (said["llama.block_count"], said["llama.attention.head_count_kv"]) == (2, 2)
    assert (said["llama.rope.freq_base"], said["llama.rope.dimension_count"]) == (10000.0, 16)
    assert (said["tokenizer.ggml.model"], said["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    assert said["tokenizer.ggml.tokens"][: len(words)] == words.convert_ids_to_tokens(range(len(words)))
    assert len(said["tokenizer.ggml.tokens"]) == len(said["tokenizer.ggml.token_type"]) == 331
    assert said["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    assert said["tokenizer.ggml.token_type"][-1] == 5  # the embedding has more rows than there are tokens
    merges = json.loads((made.model / "tokenizer.json").read_text())["model"]["merges"]
    assert said["tokenizer.ggml.merges"] == [" ".join(pair) for pair in merges]
    ends = [said[f"tokenizer.ggml.{name}_token_id"] for name in ("padding", "bos", "eos")]
    assert (ends, said["tokenizer.ggml.add_bos_token"]) == ([0, 1, 2], False)
    assert said["tokenizer.chat_template"] == words.chat_template
    assert "output.weight" not in tensors
    assert {t.tensor_type.name for t in tensors.values()} == {"F16", "F32"}


def test_8_bits_are_for_matrices(tmp_path: Path) -> None:
    """Norms stay as they are, and so does what blocks of 32 do not divide, in 16 bits."""
    GgufQ8().write(student(tmp_path, students.model(intermediate_size=80)), tmp_path, {})
    _, tensors = contents(tmp_path / "model-q8_0.gguf")
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["token_embd.weight"] == kinds["blk.1.attn_q.weight"] == "Q8_0"
    assert (kinds["output_norm.weight"], kinds["blk.0.ffn_down.weight"]) == ("F32", "F16")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("", "smollm"), (LETTERS + r"\p{N}" + SIGNS, "qwen2"), (r"\s+", ""), ("words", "")],
)
def test_how_text_is_cut_has_a_name(tmp_path: Path, pattern: str, name: str) -> None:
    """The tokenizer is recognised by what it does; one that llama.cpp does not know is refused."""
    cutter = regexes(pattern) if pattern else None
    words = tiny.tokenizer() if pattern == "words" else students.tokenizer(cutter)
    words.save_pretrained(tmp_path)
    if name:
        assert cut_of(tmp_path) == name
        return
    with pytest.raises(UsageError, match=r"no name in llama\.cpp is known for this tokenizer.*\n.*convert_hf_to_gguf"):
        cut_of(tmp_path)


def test_known_cuts_are_those_of_transformers() -> None:
    """The expression for Qwen2 is the one its tokenizer has."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    assert CUTS[PRETOKENIZE_REGEX, "bytes"] == "qwen2"


@pytest.mark.parametrize(
    ("more", "why"),
    [({"model_type": "mamba"}, "mamba is not one of llama, qwen2, qwen3"), ({"attention_bias": True}, "attention_bias"),
     ({"rope_parameters": {"rope_type": "llama3"}}, r"rope scaling \(llama3\)")],
)  # fmt: skip
def test_what_is_left_to_the_converter(tmp_path: Path, more: dict[str, Any], why: str) -> None:
    """Named in one message that names the converter; asked for by default it is left out."""
    made = student(tmp_path, students.model())
    config = made.model / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | more))
    with pytest.raises(UsageError, match=rf"{why}.*\n.*convert_hf_to_gguf\.py"):
        export.choose(["gguf"], Finished(made.version, "tiny"))
    assert [form.name for form in export.choose([], Finished(made.version, "tiny"))] == [
        "safetensors",
        "onnx",
        "onnx_int8",
    ]
