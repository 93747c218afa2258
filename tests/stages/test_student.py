"""The student made from its teacher: the chosen layers, weight for weight."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import ModelError, UsageError
from stages.student import LAYER, Student, blank, keep_layers, load
from tests.helpers import stub_model
from tests.stages import tiny


def test_a_student_comes_from_one_place() -> None:
    """`model` or `init`, not both and not neither."""
    both: dict[str, Any] = {"model": "a", "init": {"layers": [0]}}
    bad: list[dict[str, Any]] = [{}, both, {"init": {"layers": []}}]
    for settings in bad:
        with pytest.raises(ValidationError):
            Student.model_validate(settings)


def test_init_needs_a_teacher() -> None:
    """Layers of nobody cannot be kept."""
    with pytest.raises(UsageError, match="the plan has no teacher"):
        Student.model_validate({"init": {"layers": [0]}}).base(None)


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("model.layers.12.mlp.up_proj.weight", "12"),
        ("transformer.h.3.attn.c_attn.bias", "3"),
        ("model.embed_tokens.weight", None),
        ("model.norm.weight", None),
    ],
)
def test_layer_names(key: str, number: str | None) -> None:
    """The layer's number is found in the names that the usual families give their weights."""
    match = LAYER.match(key)
    assert (match.group(2) if match else None) == number


@pytest.mark.slow
@pytest.mark.parametrize("layers", [[0], [0, 2], [1, 3], [3, 0, 0], [0, 1, 2, 3]])
def test_kept_layers_are_the_teachers(layers: list[int]) -> None:
    """Each kept layer equals the teacher's, in the order given, and so do embeddings and norms."""
    import torch

    teacher = tiny.model()
    student = keep_layers(teacher, layers)
    theirs, ours = teacher.state_dict(), student.state_dict()
    assert student.config.num_hidden_layers == len(layers)
    for key, tensor in ours.items():
        match = LAYER.match(key)
        source = f"{match.group(1)}{layers[int(match.group(2))]}{match.group(3)}" if match else key
        assert torch.equal(tensor, theirs[source]), key
    assert sum(1 for key in ours if LAYER.match(key)) == len(layers) * 9
    assert teacher.config.num_hidden_layers == 4


@pytest.mark.slow
def test_a_student_is_a_model_of_its_own() -> None:
    """It runs, it generates with a cache, and training it leaves the teacher alone."""
    import torch

    teacher = tiny.model()
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    student = keep_layers(teacher, [0, 3]).eval()
    ids = torch.tensor([[1, 4, 8, 2]])
    assert student(ids).logits.shape == (1, 4, teacher.config.vocab_size)
    assert student.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0).shape[1] <= 7
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


@pytest.mark.slow
def test_all_layers_are_the_teacher() -> None:
    """A student with every layer computes what the teacher computes."""
    import torch

    teacher = tiny.model()
    ids = torch.tensor([[1, 4, 8, 9, 2]])
    with torch.inference_mode():
        assert torch.equal(keep_layers(teacher, [0, 1, 2, 3]).eval()(ids).logits, teacher(ids).logits)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [[4], [-1], [0, 99]])
def test_a_layer_that_is_not_there_is_refused(layers: list[int]) -> None:
    """The message says which layers there are."""
    with pytest.raises(UsageError, match="is not one of the teacher's 0 to 3"):
        keep_layers(tiny.model(), layers)


@pytest.mark.slow
def test_a_student_survives_the_disk(tmp_path: Path) -> None:
    """Saved and loaded by the name of its folder, it is the same student."""
    import torch

    student, tokenizer = load(str(tiny.folder(tmp_path / "teacher")), layers=[1, 2])
    student.save_pretrained(tmp_path / "student")
    tokenizer.save_pretrained(tmp_path / "student")
    again, _ = load(str(tmp_path / "student"))
    ids = torch.tensor([[1, 4, 8, 2]])
    with torch.inference_mode():
        assert torch.equal(student.eval()(ids).logits, again.eval()(ids).logits)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """A folder without weights, and a model without a chat template, are refused in words."""
    with pytest.raises(ModelError):
        load(str(stub_model(tmp_path / "stub")))
    folder = tiny.folder(tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        load(str(folder))


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    """A path without a config is named before anything is imported."""
    from pipeline.models import find

    with pytest.raises(ModelError, match=r"no config\.json in"):
        find(str(tmp_path / "nothing"))
    with pytest.raises(ModelError) as caught:
        find("demo:nothing")
    assert "make models" in caught.value.hint


@pytest.mark.slow
def test_a_blank_student_has_everything_but_weights(tmp_path: Path) -> None:
    """Class, configuration, the tokens it stops at, and the tokenizer: nothing takes memory, nothing is read."""
    folder = tiny.folder(tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 3]}')
    (folder / "model.safetensors").unlink()
    model, tokenizer = blank(str(folder))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.config.num_hidden_layers == 4 and model.generation_config.eos_token_id == [2, 3]
    assert tokenizer("the fox")["input_ids"] == tiny.tokenizer()("the fox")["input_ids"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"layers": [0, 2]}, {"config": {"num_hidden_layers": 2}}])
def test_attention_is_the_one_asked_for(tmp_path: Path, how: dict[str, Any]) -> None:
    """Of a student with weights and of one without; the model's own where none is named."""
    folder = str(tiny.folder(tmp_path / "model"))
    for made in (load, blank):
        assert made(folder, **how, attention="eager")[0].config._attn_implementation == "eager"
        assert made(folder, **how)[0].config._attn_implementation == "sdpa"
