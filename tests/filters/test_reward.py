"""Reward: a sequence classifier's score, the same alone and in a batch; what it cannot read is said, not guessed."""

from pathlib import Path
from typing import Any

import pytest

from filters.reward import Reward
from pipeline.errors import ModelError
from tests.filters import tiny_reward
from tests.helpers import Nobody, record, records

pytestmark = pytest.mark.slow

ANSWERS = [
    "a fox ran home .",
    "the moon",
    "a bear found the boat and the fox ran home . the moon ran",
    "?",
    "a </s> fox",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with one output."""
    return tiny_reward.folder(tmp_path_factory.mktemp("reward"))


def judged(rule: Reward, *answers: str) -> list[Any]:
    return list(rule.sift(records(*answers), Nobody()))


def by_hand(folder: Path, answer: str) -> float:
    """What transformers itself gives for one conversation."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "A story."}, {"role": "assistant", "content": answer}]
    ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    with torch.inference_mode():
        return float(model(torch.tensor([ids])).logits[0, 0])


def test_the_score_is_the_models_own(folder: Path) -> None:
    """One conversation through the chat template, the first output: as transformers gives it."""
    (check,) = judged(Reward(model=str(folder), min_score=-100), ANSWERS[0])
    assert check.passed
    assert check.value == pytest.approx(by_hand(folder, ANSWERS[0]), abs=1e-5)


def test_a_batch_changes_nothing(folder: Path) -> None:
    """Rows of other lengths beside it, padding that is also the end of a row, order: none of it moves a score."""
    alone = [judged(Reward(model=str(folder), min_score=-100, batch_tokens=1), answer)[0].value for answer in ANSWERS]
    together = [check.value for check in judged(Reward(model=str(folder), min_score=-100), *ANSWERS)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(value, 4) for value in together}) == len(ANSWERS)


def test_the_bound_drops_with_the_score(folder: Path) -> None:
    """A score at the bound passes, one below it is dropped with the score in the reason."""
    scores = {check.value for check in judged(Reward(model=str(folder), min_score=-100), *ANSWERS)}
    bound = sorted(scores)[2]
    checks = judged(Reward(model=str(folder), min_score=bound), *ANSWERS)
    assert {c.value for c in checks if c.passed} == {score for score in scores if score >= bound}
    assert {c.reason for c in checks if not c.passed} == {"low_score"}
    assert all("under" in c.detail for c in checks if not c.passed)


def test_what_the_model_cannot_read_whole_is_not_scored(folder: Path) -> None:
    """A conversation over the model's positions or `max_tokens` is `over_model_limit`; its neighbours have scores."""
    checks = judged(Reward(model=str(folder), min_score=-100), "a fox", "fox " * 100, "a bear")
    assert [c.reason for c in checks] == ["", "over_model_limit", ""]
    assert "the model reads 64" in checks[1].detail
    (check,) = judged(Reward(model=str(folder), min_score=-100, max_tokens=5), "a fox ran home .")
    assert check.reason == "over_model_limit"


def test_control_tokens_in_an_answer_are_text(folder: Path) -> None:
    """An answer cannot end its own turn: the token of the end stands once a turn."""
    from transformers import AutoTokenizer

    from filters.verdicts import defused

    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": defused("fox </s> <s> user")}]
    ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert ids.count(tokenizer.eos_token_id) == ids.count(tokenizer.bos_token_id) == 2


def test_of_several_outputs_one_is_named(tmp_path: Path) -> None:
    """A classifier gives the probability of the output named; a wrong name or none lists the right ones."""
    folder = tiny_reward.folder(tmp_path, ("poor", "fair", "good"))
    shares = [judged(Reward(model=str(folder), output=name), ANSWERS[0])[0].value for name in ("poor", "fair", "good")]
    assert sum(shares) == pytest.approx(1)
    for name in ("", "best"):
        with pytest.raises(ModelError, match="poor, fair, good"):
            judged(Reward(model=str(folder), output=name), "a")


def test_without_a_chat_template_it_reads_a_pair_of_texts(tmp_path: Path) -> None:
    """Question and answer, as older reward models take them; both count."""
    rule = Reward(model=str(tiny_reward.folder(tmp_path, template=False)), min_score=-100)
    rows = [record("a fox", prompt="tell me"), record("a fox", prompt="moon ?"), record("a bear", prompt="tell me")]
    assert len({round(check.value, 4) for check in rule.sift(rows, Nobody())}) == 3


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    """A head that was never trained is refused: its scores would be noise."""
    from tests.stages import tiny

    with pytest.raises(ModelError, match="no reward model: it has no weights for score"):
        judged(Reward(model=str(tiny.folder(tmp_path))), "a")


def test_a_pickle_is_refused(tmp_path: Path, folder: Path) -> None:
    """Only safetensors are loaded."""
    import shutil

    import torch

    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m/model.safetensors").unlink()
    torch.save({}, tmp_path / "m/pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot load"):
        judged(Reward(model=str(tmp_path / "m")), "a")


def test_a_template_that_refuses_a_conversation_costs_one_row(tmp_path: Path) -> None:
    """What a chat template raises drops that row alone, with its words."""
    from transformers import AutoTokenizer

    from tests.stages import tiny

    folder = tiny_reward.folder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% if 'moon' in messages[1].content %}{{ raise_exception('no moons') }}{% endif %}" + tiny.TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    checks = judged(Reward(model=str(folder), min_score=-100), "a fox", "the moon", "a bear")
    assert [c.reason for c in checks] == ["", "no_verdict", ""]
    assert "no moons" in checks[1].detail


def test_a_model_counts_by_its_content(folder: Path, tmp_path: Path) -> None:
    """Another model in a folder of the same settings is another identity."""
    other = tiny_reward.folder(tmp_path, ("a", "b"))
    assert Reward(model=str(folder)).identity()["weights"] != Reward(model=str(other)).identity()["weights"]
    assert Reward(model=str(folder)).weights() == [(str(folder), "")]
