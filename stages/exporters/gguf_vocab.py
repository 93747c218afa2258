"""A byte-level BPE tokenizer as GGUF keeps it: tokens with their types, merges, and the name of how text is cut first.

llama.cpp knows the ways to cut text by name. A tokenizer is recognised by what its `tokenizer.json` says it does, not
by its vocabulary, so that a student with tokens of its own is recognised too.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UsageError

LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CUTS = {
    ("bytes regex",): "gpt-2",
    ("digits", "bytes regex"): "smollm",
    (LETTERS + r"\p{N}" + SIGNS, "bytes"): "qwen2",
    (LETTERS + r"\p{N}{1,3}" + SIGNS, "bytes"): "llama-bpe",
}


class Vocabulary(NamedTuple):
    """What GGUF says of a tokenizer; `types` are those of gguf.TokenType."""

    cut: str
    tokens: list[str]
    types: list[int]
    adds_start: bool


def cut_of(folder: Path) -> str:
    """llama.cpp's name for how the tokenizer of a folder cuts text. Raises UsageError where it has none."""
    try:
        found = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        model = found["model"]
        steps = _steps(found.get("pre_tokenizer") or {})
    except (OSError, ValueError, KeyError) as error:
        raise _unknown("there is no readable tokenizer.json") from error
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise _unknown(f"it is {model.get('type')}, not byte-level BPE")
    name = CUTS.get(steps)
    if name is None:
        raise _unknown(f"it cuts text by {', '.join(steps) or 'nothing'}")
    if bool(model.get("ignore_merges")) != (name == "llama-bpe"):
        raise _unknown(f"ignore_merges is not what llama.cpp does for {name}")
    return name


def _steps(cutter: dict[str, Any]) -> tuple[str, ...]:
    """What a pre-tokenizer does, one word or expression a step."""
    match cutter:
        case {"type": "Sequence", "pretokenizers": list(inner)}:
            return tuple(step for one in inner for step in _steps(one))
        case {"type": "Digits", "individual_digits": True}:
            return ("digits",)
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(regex)}:
            return ("bytes regex",) if regex else ("bytes",)
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            return (pattern,)
    return (str(cutter.get("type", "nothing")),)


def _unknown(why: str) -> UsageError:
    return UsageError(
        f"gguf: no name in llama.cpp is known for this tokenizer: {why}",
        hint="use llama.cpp's convert_hf_to_gguf.py on the safetensors form, or leave gguf out of --format",
    )


def vocabulary(folder: Path, size: int) -> Vocabulary:
    """Every token of the tokenizer, and fillers up to the `size` of the model's embedding."""
    from gguf import TokenType
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    by_id = {n: token for token, n in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens = [by_id.get(n, f"[PAD{n}]") for n in range(size)]
    types = [
        TokenType.UNUSED
        if n not in by_id
        else TokenType.NORMAL
        if n not in added
        else TokenType.CONTROL
        if added[n].special
        else TokenType.USER_DEFINED
        for n in range(size)
    ]
    first = tokenizer("a")["input_ids"][0]
    return Vocabulary(cut_of(folder), tokens, [int(t) for t in types], first == tokenizer.bos_token_id)
