"""The student for llama.cpp, Ollama and LM Studio, written with the `gguf` package.

Architectures whose tensors llama.cpp takes under gguf's own name map, with nothing computed but the order of the rows
of Q and K: llama, qwen2, qwen3. Anything else is left to llama.cpp's converter.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from pipeline.errors import ModelError, UsageError
from stages.exporters.base import CARD, Finished, Form, Reader
from stages.exporters.gguf_vocab import cut_of, vocabulary
from stages.exporters.torch_reader import TorchReader, load

ARCHITECTURES = ("llama", "qwen2", "qwen3")
ELSE = "use llama.cpp's convert_hf_to_gguf.py on the safetensors form, or leave gguf out of --format"


class Gguf(Form):
    """Matrices in 16 bits."""

    name = "gguf"
    packages = ("gguf",)
    timed = False  # read back by transformers, served by llama.cpp
    kind: ClassVar[str] = "F16"

    def require(self, student: Finished) -> None:
        """A known architecture without extras, and a tokenizer that llama.cpp knows."""
        config = student.config
        if student.sort not in ARCHITECTURES:
            raise UsageError(f"gguf: {student.sort} is not one of {', '.join(ARCHITECTURES)}", hint=ELSE)
        extras = [name for name in ("attention_bias", "mlp_bias", "use_sliding_window") if config.get(name)]
        if (rope := _rope(config).get("rope_type", "default")) != "default":
            extras.append(f"rope scaling ({rope})")
        if extras:
            raise UsageError(f"gguf: this {student.sort} has {', '.join(extras)}", hint=ELSE)
        cut_of(student.model)

    def write(self, student: Finished, folder: Path, whole: Mapping[str, Path]) -> str:
        """One file."""
        import gguf

        file = folder / self.file
        writer = gguf.GGUFWriter(file, student.sort)
        try:
            _describe(writer, student, gguf.LlamaFileType[f"MOSTLY_{self.kind}"])
            _vocabulary(writer, student)
            _tensors(writer, student, gguf.GGMLQuantizationType[self.kind])
        finally:
            writer.close()
        return (
            f"GGUF, {self.kind}, with tokenizer and chat template.\n\n"
            f"```bash\nllama-server -m {self.file} --alias {student.name}\n```"
        )

    @property
    def file(self) -> str:
        """The file's name."""
        return f"model-{self.kind.lower()}.gguf"

    def open(self, student: Finished, folder: Path) -> Reader:
        """With transformers, which turns the weights into float32."""
        from transformers import GgufConfig

        return TorchReader(load(folder, gguf_file=self.file, quantization_config=GgufConfig(dequantize=True)))


class GgufQ8(Gguf):
    """Matrices in 8 bits, blocks of 32."""

    name = "gguf_q8_0"
    default = False
    kind = "Q8_0"


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return found


def _describe(writer: Any, student: Finished, kind: Any) -> None:
    """What the model is, and its shape."""
    import gguf

    config = student.config
    heads, width = config["num_attention_heads"], config["hidden_size"]
    side = config.get("head_dim") or width // heads
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(student.name)
    if licence := _front(student).get("license"):
        writer.add_license(str(licence))
    writer.add_file_type(kind)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(side)
    writer.add_value_length(side)
    writer.add_rope_dimension_count(side)
    writer.add_rope_freq_base(_rope(config).get("rope_theta") or config.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _front(student: Finished) -> dict[str, Any]:
    """The front matter of the card."""
    card = student.model / CARD
    pieces = card.read_text(encoding="utf-8").split("---") if card.is_file() else []
    found = yaml.safe_load(pieces[1]) if len(pieces) > 2 else None
    return found if isinstance(found, dict) else {}


def _vocabulary(writer: Any, student: Finished) -> None:
    """The tokenizer, its special tokens and the chat template."""
    import gguf

    size = student.config["vocab_size"]
    found = vocabulary(student.model, size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(found.cut)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.types)
    special = gguf.SpecialVocab(student.model, load_merges=True, n_vocab=size)
    special.add_special_token["bos"] = found.adds_start
    special.add_to_gguf(writer, quiet=True)


def _tensors(writer: Any, student: Finished, kind: Any) -> None:
    """Every tensor, one in memory at a time: names and shapes first, then the values in the same order."""
    import gguf
    import numpy as np

    kinds = {}
    for name, tensor in _named(student):
        shape = tuple(tensor.get_shape())
        block, size = gguf.GGML_QUANT_SIZES[kind]
        matrix = kind if shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16
        kinds[name] = gguf.GGMLQuantizationType.F32 if len(shape) == 1 else matrix
        block, size = gguf.GGML_QUANT_SIZES[kinds[name]]
        writer.add_tensor_info(name, shape, np.dtype(np.float32), math.prod(shape) // block * size, kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in _named(student):
        values = _ordered(name, tensor[:].float().numpy(), student)
        writer.write_tensor_data(gguf.quants.quantize(values, kinds[name]))


def _named(student: Finished) -> Iterator[tuple[str, Any]]:
    """GGUF's name and the unread tensor, of all that is there. Raises ModelError for one without a name."""
    import gguf
    from safetensors import safe_open

    architecture = {text: key for key, text in gguf.MODEL_ARCH_NAMES.items()}[student.sort]
    names = gguf.get_tensor_name_map(architecture, student.config["num_hidden_layers"])
    tied = student.config.get("tie_word_embeddings", False)
    for file in sorted(student.model.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for key in sorted(opened.keys()):
                if tied and key == "lm_head.weight":
                    continue
                if (name := names.get_name(key, try_suffixes=(".weight", ".bias"))) is None:
                    raise ModelError(f"gguf: {key} has no name in GGUF's {student.sort}", hint=ELSE)
                yield name, opened.get_slice(key)


def _ordered(name: str, values: Any, student: Finished) -> Any:
    """Rows of Q and K as llama.cpp's rotary embedding takes them: pairs side by side; for llama alone."""
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
    piece = name.split(".")[2] if name.startswith("blk.") else ""
    if student.sort != "llama" or piece not in heads:
        return values
    count = student.config.get(heads[piece]) or student.config["num_attention_heads"]
    return values.reshape(count, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
