"""Small random students that know a little English, and a train version of one, without any training."""

from pathlib import Path
from typing import Any

from pipeline.run import Run
from pipeline.store import Version, write_jsonl
from tests.stages.sealed import begin, end
from tests.stages.tiny import TEMPLATE, TEXT

SENTENCES = ("the fox found a boat .", "a bear ran home in 1984 .", "tell me about the moon ?", "and the boat ran .")


def tokenizer(split: Any = None) -> Any:
    """Byte-level BPE that cuts text as SmolLM2's does, or as `split` says."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = split or pre_tokenizers.Sequence([digits, letters])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator([TEXT, *SENTENCES], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )


def model(sort: str = "Llama", **more: Any) -> Any:
    """Random weights, large enough that tokens differ; `sort`: the class's name without its ending."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{sort}Config")(
        **{
            "vocab_size": 331, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
            "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
            "initializer_range": 0.3,
        } | more
    )  # fmt: skip
    return getattr(transformers, f"{sort}ForCausalLM")(config).eval()


def finish(run: Run, student: Any, words: Any, settings: dict[str, Any] | None = None) -> Version:
    """Seal a version around a model; adapters are saved by themselves and merged, as training does."""
    out = begin(run, "train", settings=settings or {})
    folder = out.path
    if hasattr(student, "merge_and_unload"):
        student.save_pretrained(folder / "adapter")
        student = student.merge_and_unload()
    student.save_pretrained(folder / "model")
    words.save_pretrained(folder / "model")
    card = "---\nlicense: apache-2.0\nbase_model: tiny\n---\n# tiny student\n"
    (folder / "model/README.md").write_text(card, encoding="utf-8")
    turns = [[{"role": role, "content": text} for role in ("user", "assistant")] for text in SENTENCES]
    rows = [{"id": str(n), "prompt": [asked], "completion": [said]} for n, (asked, said) in enumerate(turns)]
    write_jsonl(folder / "rows.jsonl", rows)
    return end(run, out)


def files(folder: Path) -> set[str]:
    """Names of all files below."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
