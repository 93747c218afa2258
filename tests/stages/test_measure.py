"""Measuring: the loss of the answer alone, and what comes out of one measured model."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.base import Sampling
from stages.measure import answer_loss, answers, measure, text_loss
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
    assert loss > 0
    assert count == TALK[-1]["content"].count(" ") + 2


def test_a_text_by_itself_counts_from_its_first_token() -> None:
    """As transformers' own loss over the text after the token that begins it."""
    import torch

    model, tokenizer = tiny.model(), tiny.tokenizer()
    loss, count = text_loss(model, tokenizer, "the fox ran home .")
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer("the fox ran home .")["input_ids"]]])
    with torch.inference_mode():
        expected = model(ids, labels=ids).loss.item()
    assert count == 5
    assert loss / count == pytest.approx(expected, rel=1e-5)


def job(folder: Path, **more: Any) -> dict[str, Any]:
    whole = {
        "model": {"model": str(folder)}, "seed": 1, "sampling": {"temperature": 0.0, "max_tokens": 6},
        "conversations": [TALK, LONG], "texts": ["the moon .", TALK], "asked": [ASKED, LONG[:-1]], "probes": [ASKED],
    }  # fmt: skip
    return whole | more


def test_one_model_is_measured(tmp_path: Path) -> None:
    """A loss a conversation and text, an answer a prompt and probe; progress is told for each."""
    folder = tiny.folder(tmp_path / "model")
    told: list[int] = []
    result = measure(job(folder), told.append)
    model, tokenizer = tiny.model(), tiny.tokenizer()
    losses = [answer_loss(model, tokenizer, talk) for talk in (TALK, LONG)]
    assert result["losses"] == [pytest.approx(loss, rel=1e-4) for loss in losses]
    assert result["texts"] == [
        pytest.approx(text_loss(model, tokenizer, "the moon ."), rel=1e-4), pytest.approx(losses[0], rel=1e-4)
    ]  # fmt: skip
    assert sum(told) == 2 + 2 + 2 + 1
    assert [len(result[part]) for part in ("answers", "probes")] == [2, 1]
    assert result["probes"][0] == result["answers"][0], "both are greedy here"
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    assert result["peak_memory"] > 0 and result["tokens_per_second"] > 0 and result["first_token_seconds"] > 0


def test_a_model_that_answers_nothing_is_still_timed(tmp_path: Path) -> None:
    result = measure(job(tiny.folder(tmp_path / "model"), asked=[], texts=[], probes=[]), lambda n: None)
    assert result["answers"] == result["probes"] == result["texts"] == []
    assert result["tokens_per_second"] > 0


def said(asked: list[Any], seed: int = 0, **sampling: Any) -> list[dict[str, Any]]:
    settings = Sampling(**({"temperature": 1.0, "max_tokens": 12} | sampling))
    return answers(tiny.model(), tiny.tokenizer(), asked, settings, seed, lambda n: None)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_do_not_depend_on_their_neighbours(temperature: float) -> None:
    """Prompts of different length in one batch get the answers they get alone, drawn ones too."""
    together = said([ASKED, LONG[:-1]], temperature=temperature)
    assert together[0] == said([ASKED], temperature=temperature)[0]


def test_every_setting_of_the_sampling_acts() -> None:
    """Another seed, another answer; a stop string ends it, and a bound on tokens leaves it unfinished."""
    (first,), (other,) = said([ASKED], seed=1), said([ASKED], seed=2)
    assert first["text"] != other["text"]
    (cut,) = said([ASKED], temperature=0.0, max_tokens=3)
    assert not cut["ended"] and len(cut["text"].split()) <= 3
    (whole,) = said([ASKED], temperature=0.0)
    stop = whole["text"].split()[1]
    (stopped,) = said([ASKED], temperature=0.0, stop=[stop])
    assert stopped["ended"] and stop not in stopped["text"]


def test_a_prompt_that_is_too_long_is_an_empty_answer_with_a_reason() -> None:
    """The others are answered; tiny models have 128 places."""
    long = [{"role": "user", "content": "the fox " * 100}]
    first, second = said([long, ASKED])
    assert first["text"] == "" and "max_model_len" in first["error"]
    assert second["error"] == ""
