"""Gradients at the head: those of autograd, projected so that inner products stay; the same alone and in a batch."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.records import Message, Record
from stages.gradients import Gradients, Sketch
from stages.spaces import Encoder
from tests.helpers import record
from tests.stages import tiny

pytestmark = pytest.mark.slow

ANSWERS = [
    "a fox ran home .",
    "the moon",
    "a bear found the boat and the fox ran home . the moon ran",
    "?",
    "a fox ran",
]
MOST = 4096  # dimensions: enough to tell the rows' inner products


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model of random weights, large enough to have opinions."""
    import torch
    from transformers import LlamaForCausalLM

    path = tmp_path_factory.mktemp("student")
    config = tiny.model().config
    config.tie_word_embeddings, config.initializer_range = request.param, 0.3
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


def rows(*answers: str) -> list[Record]:
    return [record(answer, id=f"r{n}", prompt="tell me about the moon .") for n, answer in enumerate(answers)]


def gradients(folder: Path, records: list[Record], **settings: Any) -> Any:
    space = Gradients(model=str(folder), **settings)
    reader: Encoder = space.open()
    found = reader.encode([space.of(row) for row in records])
    reader.close()
    return found


def true_gradients(folder: Path, records: list[Record]) -> Any:
    """What autograd makes of the answers' mean loss at the head, (N, V, H); tied weights are set apart before."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    found = []
    for row in records:
        turns = [m.model_dump() for m in row.messages][:-1]
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
        ids = asked + tokenizer(row.answer, add_special_tokens=False)["input_ids"]
        labels = torch.tensor([[-100] * len(asked) + ids[len(asked) :]])
        model.zero_grad()
        model(torch.tensor([ids]), labels=labels).loss.backward()
        found.append(model.lm_head.weight.grad.clone())
    return torch.stack(found)


def test_gradients_are_those_of_autograd(folder: Path) -> None:
    """They are the projections of the true ones, number for number."""
    true = true_gradients(folder, rows(*ANSWERS))
    _, vocabulary, hidden = true.shape
    sketch = Sketch(vocabulary, hidden, 1024)
    expected = sketch.folded((sketch._errors.T @ true @ sketch._hidden).flatten(1))
    found = gradients(folder, rows(*ANSWERS))
    assert found.shape == (len(ANSWERS), 1024) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_inner_products_are_near_the_true_ones(folder: Path) -> None:
    """Lengths and angles of the projected gradients; the rows differ in theirs."""
    true = true_gradients(folder, rows(*ANSWERS)).flatten(1).numpy()
    found = gradients(folder, rows(*ANSWERS), dimensions=MOST)
    scale = np.sqrt(np.outer((true * true).sum(1), (true * true).sum(1)))
    assert (np.abs(found @ found.T - true @ true.T) / scale).max() < 0.25
    cosines = (true @ true.T / scale)[np.triu_indices(len(ANSWERS), 1)]
    assert cosines.max() - cosines.min() > 0.3


def test_projections_are_right_on_average() -> None:
    """Over many seeds the mean of the projected inner product is the true one; a single one is about 1/sqrt(d) off."""
    import torch

    torch.manual_seed(0)
    tokens, vocabulary, hidden, dimensions = 7, 50, 24, 256
    parts = [
        (torch.randn(tokens, vocabulary), torch.randint(vocabulary, (tokens,)), torch.randn(tokens, hidden))
        for _ in range(2)
    ]
    true = []
    for logits, targets, states in parts:
        errors = logits.softmax(-1) - torch.nn.functional.one_hot(targets, vocabulary)
        true.append((errors.T @ states / tokens).flatten())
    exact, scale = float(true[0] @ true[1]), float(true[0].norm() * true[1].norm())
    squared = float(true[0] @ true[0])
    products, squares = [], []
    for seed in range(300):
        sketch = Sketch(vocabulary, hidden, dimensions, seed=seed)
        made = sketch.folded(torch.stack([sketch.gradient(*part) for part in parts]))
        products.append(float(made[0] @ made[1]))
        squares.append(float(made[0] @ made[0]))
    deviation = float(np.std(products))
    assert 0.02 * scale < deviation < 0.2 * scale
    assert abs(np.mean(products) - exact) < 4 * deviation / math.sqrt(len(products))
    assert abs(np.mean(squares) - squared) < 4 * float(np.std(squares)) / math.sqrt(len(squares))


def test_a_batch_changes_nothing(folder: Path) -> None:
    """Rows of other lengths beside it and padding do not move a gradient; another run gives the very same."""
    records = rows(*ANSWERS, "")
    together = gradients(folder, records)
    alone = np.concatenate([gradients(folder, [row], batch_tokens=1) for row in records])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert (together == gradients(folder, records)).all()
    assert (gradients(folder, records[::-1])[::-1] == together).all()


def test_what_was_asked_shapes_the_gradient(folder: Path) -> None:
    """The same answer to another question is another gradient; what comes after the answer is none of it."""
    one, other = (record("the moon", prompt=prompt) for prompt in ("tell me about the fox", "a boat ?"))
    later = one.model_copy(update={"messages": [*one.messages, Message(role="user", content="and ?")]})
    found = gradients(folder, [one, other, later])
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert (found[0] == found[2]).all()


def test_without_an_answer_it_is_zero(folder: Path) -> None:
    """No answer, or one without tokens: nothing to learn from; the rows beside it are as ever."""
    silent = record(messages=[Message(role="user", content="a fox ?")])
    found = gradients(folder, [silent, record(""), record("a fox")])
    assert not found[:2].any() and found[2].any()
    assert gradients(folder, []).shape == (0, 1024)


def test_long_records_fit(folder: Path) -> None:
    """Over `max_tokens` the answer's start and the question's end are read; the rest makes no difference."""
    settings = {"max_tokens": 32, "dimensions": 64}
    short, long = (record("a fox " * 40 + end, prompt="tell me ." * 30) for end in ("", "moon " * 9000))
    found = gradients(folder, [short, long], **settings)
    assert np.isfinite(found).all() and found.any()
    assert (found[0] == found[1]).all()


def test_identity_counts_what_shapes_a_gradient(folder: Path) -> None:
    """The student's content, the lengths and the dimensions; not the batches."""
    base = Gradients(model=str(folder))
    assert base.weights() == [(str(folder), "")] and len(base.identity()["weights"]) == 16
    assert base.meaning() == Gradients(model=str(folder), batch_tokens=7).meaning()
    for other in ({"max_tokens": 64}, {"dimensions": 9}, {"dtype": "float32"}):
        assert Gradients(model=str(folder), **other).meaning() != base.meaning()


def test_a_model_without_a_head_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message, and so for a folder without a model."""
    from transformers import LlamaForCausalLM

    with pytest.raises(ModelError, match=r"no config\.json in"):
        Gradients(model=str(tmp_path)).open()
    monkeypatch.setattr(LlamaForCausalLM, "get_output_embeddings", lambda _: None)
    with pytest.raises(ModelError, match="has no language-model head"):
        Gradients(model=str(tiny.folder(tmp_path / "m", layers=1))).open()
