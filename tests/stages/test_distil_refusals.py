"""What soft labels, features and attention are refused for, before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline import console
from pipeline.errors import UsageError
from stages.objectives import AnyObjective
from stages.objectives.base import Model
from tests.stages import tiny


def objective(**settings: Any) -> Any:
    """Any objective, by its settings in a plan."""
    return TypeAdapter(AnyObjective).validate_python(settings)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"kind": "soft_label", "stored": True, "temperature": 2}, "known at temperature 1 alone"),
        ({"kind": "soft_label", "stored": True, "features": {"layers": [[0, 0]]}}, "need the teacher itself"),
        ({"kind": "soft_label", "stored": True, "config": {"packing": True}}, "packing loses which record"),
        (
            {"kind": "attention", "attention": {"layers": [[0, 0]]}, "config": {"packing": True}},
            "leave config.packing out",
        ),
        ({"kind": "feature"}, "features"),
        ({"kind": "feature", "features": {"layers": []}}, "at least 1"),
        ({"kind": "soft_label", "divergence": "kl"}, "forward_kl"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], why: str) -> None:
    """In the plan, before anything is looked at."""
    with pytest.raises(ValidationError, match=why):
        objective(**settings)


def pair(teacher: Any = None, tokenizer: Any = None) -> tuple[Model, Model]:
    """A student of two layers, and a teacher of four."""
    return Model(tiny.model(2), tiny.tokenizer()), Model(teacher or tiny.model(4), tokenizer or tiny.tokenizer())


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize(("name", "kind"), [("features", "feature"), ("attention", "attention")])
def test_a_layer_there_is_not(who: int, name: str, kind: str) -> None:
    """The message says whose it is and which there are."""
    layers = [[0, 0]]
    layers[0][who] = 4
    goal = objective(kind=kind, **{name: {"layers": layers}})
    said = (
        rf"train\.objective\.{name}\.layers: the {('student', 'teacher')[who]} has no layer 4, but 0 to {(1, 3)[who]}"
    )
    with pytest.raises(UsageError, match=said):
        goal.require(*pair())


@pytest.mark.slow
def test_another_tokenizer() -> None:
    """Different tokens, or the same under other numbers, are refused, with the way that is left."""
    other = tiny.tokenizer()
    other.add_tokens(["wolf"])
    with pytest.raises(
        UsageError, match=r"different tokenizers \(\d+ and \d+ tokens; 'wolf' is None and \d+\)\nhint: sft"
    ):
        objective(kind="soft_label").require(*pair(tokenizer=other))


@pytest.mark.slow
def test_another_template_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The teacher reads what the student reads."""
    monkeypatch.setattr(console, "_quiet", False)
    other = tiny.tokenizer()
    other.chat_template = other.chat_template.replace("<s>", "<s> ")
    objective(kind="soft_label").require(*pair(tokenizer=other))
    assert "the teacher is fed the student's chat template" in capsys.readouterr().err


@pytest.mark.slow
def test_relations_need_widths_that_divide_and_three_projections() -> None:
    """As many relation heads as there are told, of queries, keys and values that have modules of their own."""
    from transformers import GPT2Config, GPT2LMHeadModel

    odd = objective(kind="attention", attention={"layers": [[0, 0]], "of": "relations", "relation_heads": 3})
    with pytest.raises(UsageError, match="3 does not divide the 32 outputs of the student's q_proj"):
        odd.require(*pair())
    one = objective(kind="attention", attention={"layers": [[0, 0]], "of": "relations"})
    fused = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=22))
    with pytest.raises(UsageError, match=r"GPT2LMHeadModel has no q_proj, k_proj, v_proj .*\nhint: .*of: rows"):
        one.require(*pair(teacher=fused))


@pytest.mark.slow
def test_a_teacher_cannot_be_its_own_student(tmp_path: Path) -> None:
    """Training one would train the other."""
    from stages.objectives.base import Teaching
    from tests.stages.test_distil import PLAIN, rows

    goal = objective(kind="soft_label", **PLAIN)
    model = tiny.model(2)
    with pytest.raises(ValueError, match="the same modules"):
        goal.trainer(model, tiny.tokenizer(), rows(), tmp_path, 1, Teaching(model))
