"""A tiny random Llama and its tokenizer, made on the spot: real classes, no download."""

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ' ' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant ' }}{% endif %}"
)
TEXT = "user assistant system the a fox bear found moon boat tell me about and ran home . ?"
WORDS = list(dict.fromkeys(TEXT.split(" ")))


def tokenizer() -> Any:
    """One token a word, `<s>` and `</s>` around turns."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: n for n, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        chat_template=TEMPLATE,
    )  # fmt: skip


def model(layers: int = 4, seed: int = 0, hidden_size: int = 32, attn: str | None = None) -> Any:
    """Random weights, every layer different; `attn`: the attention implementation."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=4 + len(WORDS), hidden_size=hidden_size, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, attn_implementation=attn,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def folder(path: Path, layers: int = 4) -> Path:
    """Model and tokenizer as files."""
    model(layers).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path
