"""A tiny random reward model, made on the spot: real classes, no download."""

from pathlib import Path

from tests.stages import tiny


def folder(path: Path, labels: tuple[str, ...] = ("reward",), *, template: bool = True) -> Path:
    """A Llama with one output a label, and its tokenizer; without `template` it has no chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4 + len(tiny.WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2, id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(path)
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = "</s>"  # as many have it: the end of a row looks like its padding
    if not template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(path)
    return path
