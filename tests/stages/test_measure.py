"""Measuring: the loss of the answer alone, and what comes out of one measured model."""

import math
from pathlib import Path
from typing import Any

import pytest

from stages.measure import answer_loss, generate, measure, prompts
from tests.stages import tiny

pytestmark = pytest.mark.slow

ASKED = [{"role": "user", "content": "tell me about the fox ?"}]
TALK = [*ASKED, {"role": "assistant", "content": "the fox found a boat and ran home ."}]
LONG = [{"role": "system", "content": "the bear"}, *TALK, *ASKED, {"role": "assistant", "content": "the moon ."}]


@pytest.mark.parametrize("conversation", [TALK, LONG])
def test_the_loss_is_that_of_transformers_with_the_prompt_masked(conversation: list[dict[str, str]]) -> None:
    """Sum over the answer's tokens, end of turn included, equals transformers' own mean times their number."""
    import torch

    model, tokenizer = tiny.model(), tiny.tokenizer()
    loss, count = answer_loss(model, tokenizer, conversation)
    whole = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
    prompt = tokenizer.apply_chat_template(
        conversation[:-1], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert whole[: len(prompt)] == prompt and count == len(whole) - len(prompt)
    labels = torch.tensor([[-100] * len(prompt) + whole[len(prompt) :]])
    with torch.inference_mode():
        expected = model(torch.tensor([whole]), labels=labels).loss.item()
    assert loss / count == pytest.approx(expected, rel=1e-5)
    assert whole[-1] == tokenizer.eos_token_id


def test_a_template_that_rewrites_earlier_turns_still_counts_the_answer() -> None:
    """Where prompt and whole differ before the answer, counting begins where they part."""
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = tiny.TEMPLATE.replace("'<s>assistant '", "'<s>assistant moon moon '")
    loss, count = answer_loss(tiny.model(), tokenizer, TALK)
    assert math.isfinite(loss)
    assert count == TALK[-1]["content"].count(" ") + 2


def job(folder: Path, **more: Any) -> dict[str, Any]:
    sampling = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 6}
    settings = {"model": {"model": str(folder)}, "seed": 1, "samples": 2, "sampling": sampling}
    return settings | {"conversations": [TALK, LONG]} | more


def test_one_model_is_measured(tmp_path: Path) -> None:
    """Perplexity follows from the answers' losses; progress is told once a conversation and once for samples."""
    folder = tiny.folder(tmp_path / "model")
    told: list[dict[str, Any]] = []
    result = measure(job(folder), told.append)
    losses = [answer_loss(tiny.model(), tiny.tokenizer(), talk) for talk in (TALK, LONG)]
    tokens = sum(count for _, count in losses)
    assert result["tokens"] == tokens
    assert result["perplexity"] == pytest.approx(math.exp(sum(loss for loss, _ in losses) / tokens), rel=1e-4)
    assert sum(row["advance"] for row in told) == 3
    assert len(result["samples"]) == 2
    assert result["parameters"] == sum(p.numel() for p in tiny.model().parameters())
    assert result["peak_memory"] > 0 and result["tokens_per_second"] > 0
    assert measure(job(folder, samples=0), told.append)["samples"] == []


def test_samples_do_not_depend_on_their_neighbours() -> None:
    """Prompts of different length in one batch get the greedy answers they get alone."""
    model, tokenizer = tiny.model(), tiny.tokenizer()
    both = job(Path(), conversations=[TALK, LONG])

    def answers(**more: Any) -> list[str]:
        return generate(model, tokenizer, prompts(model, tokenizer, both | more), both["sampling"])

    together = answers()
    alone = [answers(conversations=[talk])[0] for talk in (TALK, LONG)]
    assert together == alone
