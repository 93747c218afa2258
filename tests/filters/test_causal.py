"""Perplexity and IFD on tiny models: the losses are the model's own, alone and in batches, whatever the length."""

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from filters.ifd import Ifd
from filters.perplexity import Perplexity
from pipeline.errors import ModelError
from pipeline.records import Check, Message, Record
from stages.filter import FilterStage
from stages.measure import answer_loss
from tests.helpers import Nobody, record
from tests.stages import tiny

pytestmark = pytest.mark.slow

ANSWERS = ["a fox ran home .", "the moon", "a bear found the boat and the fox ran home . the moon ran", "?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model of random weights."""
    return tiny.folder(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    """The same as transformers loads it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def rows(*answers: str) -> list[Record]:
    return [record(answer, id=f"r{n}", prompt="tell me about the moon .") for n, answer in enumerate(answers)]


def judged(rule: Perplexity | Ifd, *answers: str) -> list[Check]:
    return list(rule.sift(rows(*answers), Nobody()))


def loss(loaded: tuple[Any, Any], ids: list[int], start: int) -> float:
    """Mean cross-entropy of the tokens from `start` on, as the model itself gives it."""
    import torch

    labels = torch.tensor([[-100] * start + ids[start:]])
    with torch.inference_mode():
        return float(loaded[0](torch.tensor([ids]), labels=labels).loss)


def test_perplexity_is_the_models_own(folder: Path, loaded: tuple[Any, Any]) -> None:
    """By itself a text follows the mark that opens a sequence; every one of its tokens counts."""
    checks = judged(Perplexity(model=str(folder)), *ANSWERS)
    for check, answer in zip(checks, ANSWERS, strict=True):
        ids = [1, *loaded[1](answer, add_special_tokens=False)["input_ids"]]
        assert check.value == pytest.approx(math.exp(loss(loaded, ids, 1)), abs=2e-3)


def test_both_texts_are_one(folder: Path) -> None:
    """Prompt and answer one after the other are measured as that text alone."""
    asked = record("the moon .", prompt="tell me about")
    alone = record("tell me about\n\nthe moon .")
    rules = Perplexity(model=str(folder), on="both"), Perplexity(model=str(folder))
    both, one = (next(rule.sift([row], Nobody())).value for rule, row in zip(rules, (asked, alone), strict=True))
    assert both == pytest.approx(one, rel=1e-6)


def test_given_the_prompt_it_agrees_with_evaluation(folder: Path, loaded: tuple[Any, Any]) -> None:
    """The loss that the evaluate stage sums is this one and that of the token that ends the turn."""
    model, tokenizer = loaded
    for answer in ANSWERS[:3]:
        (check,) = judged(Perplexity(model=str(folder), given_prompt=True), answer)
        (row,) = rows(answer)
        turns = [m.model_dump() for m in row.messages]
        total, count = answer_loss(model, tokenizer, turns)
        whole = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        end = loss(loaded, whole, len(whole) - 1)
        assert check.value == pytest.approx(math.exp((total - end) / (count - 1)), rel=1e-3)


def test_ifd_is_the_quotient_of_both(folder: Path, loaded: tuple[Any, Any]) -> None:
    """Mean loss of the answer given the question over that of the answer alone, of the same tokens."""
    (check,) = judged(Ifd(model=str(folder), max_ifd=None), ANSWERS[2])
    _, tokenizer = loaded
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "tell me about the moon ."}], add_generation_prompt=True, return_dict=False
    )
    answer = tokenizer(ANSWERS[2], add_special_tokens=False)["input_ids"]
    given, alone = loss(loaded, asked + answer, len(asked)), loss(loaded, [1, *answer], 1)
    assert check.value == pytest.approx(given / alone, abs=1e-3)
    assert check.detail == f"loss {given:.2f} with the question, {alone:.2f} without"


@pytest.mark.parametrize("kind", [Perplexity, Ifd])
def test_a_batch_changes_nothing(folder: Path, kind: type[Perplexity] | type[Ifd]) -> None:
    """Rows of other lengths beside it and padding do not move a value; checks come in the order of the records."""
    alone = [judged(kind(model=str(folder), batch_tokens=1), answer)[0].value for answer in ANSWERS]
    together = [check.value for check in judged(kind(model=str(folder)), *ANSWERS)]
    assert together == pytest.approx(alone, abs=2e-3)
    assert len(set(together)) == len(ANSWERS)


def test_long_texts_are_measured_over_their_first_tokens(folder: Path) -> None:
    """A megabyte is cut to `max_tokens`; what lies behind makes no difference, a long question leaves room."""
    rule = Perplexity(model=str(folder), max_tokens=32)
    short, long = judged(rule, "the fox " * 40, "the fox " * 40 + "moon " * 200_000)
    assert short.value == long.value
    asked = [record("a fox ran home .", prompt="moon " * 200_000)]
    (check,) = Ifd(model=str(folder), max_tokens=32, max_ifd=None).sift(asked, Nobody())
    assert check.value > 0


def test_bounds_and_empty_texts(folder: Path) -> None:
    """Each side has its reason; where there is nothing to measure that is the reason."""
    (value,) = (c.value for c in judged(Perplexity(model=str(folder)), ANSWERS[0]))
    (low, empty) = judged(Perplexity(model=str(folder), min_perplexity=value + 1), ANSWERS[0], " ")
    (high,) = judged(Perplexity(model=str(folder), max_perplexity=value - 1), ANSWERS[0])
    assert (low.reason, high.reason, empty.reason) == ("low_perplexity", "high_perplexity", "no_text")
    assert low.detail == f"{value:g}, under {value + 1:g}"
    (ratio,) = (c.value for c in judged(Ifd(model=str(folder), max_ifd=None), ANSWERS[0]))
    (low,) = judged(Ifd(model=str(folder), min_ifd=ratio + 0.1, max_ifd=None), ANSWERS[0])
    (high, empty) = judged(Ifd(model=str(folder), max_ifd=ratio - 0.1), ANSWERS[0], "")
    assert (low.reason, high.reason, empty.reason) == ("low_ifd", "high_ifd", "no_text")


def test_conversations_of_any_shape_are_measured(folder: Path) -> None:
    """No question, several turns, a template that refuses the roles: read as plain text then."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    tokenizer.save_pretrained(folder.parent / "strict")
    tiny.model().save_pretrained(folder.parent / "strict")
    turns = [Message(role=role, content="the moon") for role in ("system", "user", "assistant", "user", "assistant")]
    odd = [record(messages=turns), record(messages=turns[2:3]), record("fox", prompt="")]
    for model in (folder, folder.parent / "strict"):
        for rule in (Ifd(model=str(model), max_ifd=None), Perplexity(model=str(model), given_prompt=True)):
            assert all(c.value > 0 for c in rule.sift(odd, Nobody()))


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Its weights, its folder: said when it is needed, while the plan can still be checked."""
    tiny.tokenizer().save_pretrained(tmp_path / "empty")
    (tmp_path / "empty/config.json").write_text('{"model_type": "llama"}')
    for name, message in (("empty", "transformers cannot load"), ("gone", "no config.json in")):
        rule = Perplexity(model=str(tmp_path / name))
        rule.identity()
        with pytest.raises(ModelError, match=message):
            judged(rule, "a fox")


def test_the_stage_counts_its_models(folder: Path) -> None:
    """`check` looks for them, and they are left out where rows are counted as they come."""
    rules = [{"kind": "perplexity", "model": str(folder)}, {"kind": "length"}, {"kind": "near"}, {"kind": "exact"}]
    stage = FilterStage.model_validate({"rules": rules})
    assert stage.models(None) == [(str(folder), "")]
    assert [rule.label for rule in stage.free()] == ["length", "exact"]
    stage = FilterStage.model_validate({"rules": [*rules[1:3], rules[3] | {"keep": "length"}]})
    assert [rule.label for rule in stage.free()] == ["length"]


def test_a_retrained_model_is_another_fingerprint(tmp_path: Path) -> None:
    """The weights count, not the folder's name."""
    one, other = (Ifd(model=str(tiny.folder(tmp_path / str(n), layers=n))).identity() for n in (1, 2))
    assert one["weights"] != other["weights"]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Perplexity, {"min_perplexity": 9, "max_perplexity": 3}, "min_perplexity 9 is over max_perplexity 3"),
        (Perplexity, {"given_prompt": True, "on": "prompt"}, "given_prompt measures answers"),
        (Ifd, {"min_ifd": 2}, "min_ifd 2 is over max_ifd 1"),
    ],
)
def test_settings_that_contradict_each_other(kind: Any, settings: dict[str, Any], message: str) -> None:
    """Refused with the plan."""
    with pytest.raises(ValidationError, match=message):
        kind(model="x", **settings)
