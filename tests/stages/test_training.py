"""One training: models counted, memory that runs out, students from scratch, teachers that are not there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.openai import OpenAI
from pipeline.errors import ModelError, PipelineError, UsageError
from pipeline.store import Version
from stages.student import Student, blank, count, load
from stages.train import Train
from tests.helpers import write_plan
from tests.stages import tiny
from tests.stages.conftest import Workshop

SFT: dict[str, Any] = {
    "kind": "sft", "num_train_epochs": 1, "learning_rate": 0.05, "per_device_train_batch_size": 4, "max_length": 64,
    "config": {"optim": "sgd", "max_grad_norm": 0},
}  # fmt: skip
ROW = {"prompt": "tell me about the fox ?", "completion": "the fox found a boat and ran home ."}


def trained(workshop: Workshop, **train: Any) -> Version:
    """A version of `train` over eight rows of a file."""
    write_plan(workshop.folder, train={"student": {"init": {"layers": [0, 3]}}, "objective": SFT} | train)
    (workshop.folder / "model/config.json").unlink()
    tiny.folder(workshop.folder / "model")
    rows = workshop.folder / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(ROW) for _ in range(8)))
    (version,) = workshop.make("train", input=str(rows))
    return version


def soft_label(**more: Any) -> Train:
    """A stage that learns soft labels."""
    return Train.model_validate({"student": {"model": "x"}, "objective": {"kind": "soft_label"}} | more)


def test_who_teaches() -> None:
    """The plan's teacher, or another one; none, or one on a server, is refused with the ways that are left."""
    remote = OpenAI(model="big", base_url="http://localhost/v1")
    assert soft_label(teacher={"model": "org/big"}).tutor(remote) == ("org/big", "")
    assert Train.model_validate({"student": {"model": "x"}, "objective": {"kind": "sft"}}).tutor(remote) is None
    with pytest.raises(UsageError, match=r"big is on a server\nhint: train\.teacher: .*stored: true"):
        soft_label().tutor(remote)
    with pytest.raises(UsageError, match="the plan has none"):
        soft_label().tutor(None)


@pytest.mark.slow
def test_a_teacher_that_cannot_be_loaded(workshop: Workshop) -> None:
    """It is named before anything is trained."""
    teacher = {"model": str(workshop.folder / "nothing")}
    with pytest.raises(ModelError, match="nothing"):
        trained(workshop, objective={"kind": "soft_label"}, teacher=teacher)


@pytest.mark.slow
def test_memory_that_runs_out_halves_the_batch(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the rows, twice as often: the same steps, said aloud and in the manifest."""
    from stages.trainers.positions import TrainedPositions

    whole = trained(workshop)
    compute = TrainedPositions.compute_loss

    def greedy(self: Any, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        if len(inputs["input_ids"]) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return compute(self, model, inputs, *more, **named)

    monkeypatch.setattr(TrainedPositions, "compute_loss", greedy)
    (again,) = workshop.make("train", input=str(workshop.folder / "rows.jsonl"), again=True)
    assert again.manifest.notes[-1] == "memory ran out: batches of 1 rows, 4 to a step"
    assert again.manifest.figures["steps"] == whole.manifest.figures["steps"] == 2
    ours, theirs = (load(str(v.path / "model"))[0].state_dict() for v in (again, whole))
    assert all((ours[name] - theirs[name]).abs().max() < 1e-5 for name in theirs)


@pytest.mark.slow
def test_memory_that_is_never_enough(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time, and no more to halve: what needs less is named."""
    from stages.trainers.positions import TrainedPositions

    def greedy(*more: Any, **named: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(TrainedPositions, "compute_loss", greedy)
    with pytest.raises(PipelineError, match=r"one row at a time: CUDA out of memory\nhint: train\.objective\.lora"):
        trained(workshop)


def test_halving() -> None:
    """Into equal parts, so that a step stays the same step."""
    from stages.objectives.sft import Sft

    def halves(size: int, times: int = 1) -> tuple[int, int] | None:
        half = Sft(per_device_train_batch_size=size, gradient_accumulation_steps=times).halved()
        return None if half is None else (half.per_device_train_batch_size, half.gradient_accumulation_steps)

    assert [halves(8), halves(6, 2), halves(9), halves(7), halves(1)] == [(4, 2), (3, 4), (3, 3), (1, 7), None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"use_cpu": False}, "there is no GPU here"),
        ({"fp16": True}, "fp16 needs a GPU"),
        ({"bf16": True}, "this CPU has no instructions for it"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_what_this_machine_has_not(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], why: str
) -> None:
    """A GPU that is not there, or a CPU without bfloat16, is said before the first step."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.setattr("pipeline.machine.bf16", lambda: False)
    with pytest.raises(UsageError, match=why):
        trained(workshop, objective=SFT | {"config": config})


@pytest.mark.slow
def test_a_student_from_scratch(workshop: Workshop) -> None:
    """The teacher's family and tokenizer, another shape, random weights from the plan's seed."""
    student = {"init": {"config": {"num_hidden_layers": 1, "hidden_size": 16}}}
    version = trained(workshop, student=student)
    model, tokenizer = load(str(version.path / "model"))
    assert (model.config.num_hidden_layers, model.config.hidden_size, len(model.model.layers)) == (1, 16, 1)
    assert tokenizer.get_vocab() == tiny.tokenizer().get_vocab()
    figures = version.manifest.figures
    assert figures["parameters"] == count(model)
    assert figures["ratio"] == round(figures["teacher_parameters"] / count(model), 2)
    (again,) = workshop.make("train", input=str(workshop.folder / "rows.jsonl"), again=True)
    assert (again.path / "model/model.safetensors").read_bytes() == (
        version.path / "model/model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_a_setting_that_the_teacher_has_not(tmp_path: Path) -> None:
    """It would be ignored; what there is is named."""
    folder = str(tiny.folder(tmp_path / "model"))
    with pytest.raises(UsageError, match=r"has no num_layer\nhint: among what it has: .*num_hidden_layers"):
        blank(folder, config={"num_layer": 2})


@pytest.mark.parametrize("init", [{}, {"layers": [0], "config": {"a": 1}}, {"config": {"vocab_size": 9}}])
def test_what_a_student_cannot_be_made_by(init: dict[str, Any]) -> None:
    """Nothing, both ways at once, another vocabulary."""
    with pytest.raises(ValueError, match=r"layers|vocab_size"):
        Student.model_validate({"init": init})


@pytest.mark.slow
def test_a_blank_has_the_shape_of_what_is_loaded(tmp_path: Path) -> None:
    """Without weights: the same parameters, layer for layer."""
    folder = str(tiny.folder(tmp_path / "model"))
    for how in ({}, {"layers": [0, 2]}, {"config": {"hidden_size": 16, "num_attention_heads": 2}}):
        whole, empty = load(folder, **how)[0], blank(folder, **how)[0]
        assert {n: p.shape for n, p in empty.named_parameters()} == {n: p.shape for n, p in whole.named_parameters()}
        assert all(p.device.type == "meta" for p in empty.parameters())


@pytest.mark.slow
def test_adapters_are_kept_beside_the_whole(workshop: Workshop) -> None:
    """`model/` is merged and `adapter/` is what was learned: together with the base they are the same model."""
    import torch
    from peft import PeftModel

    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
    version = trained(workshop, student={"model": str(workshop.folder / "model")}, objective=SFT | {"lora": lora})
    base = load(str(workshop.folder / "model"))[0]
    ids = torch.tensor([[1, 4, 8, 2]])
    with torch.inference_mode():
        merged = load(str(version.path / "model"))[0].eval()(ids).logits
        adapted = PeftModel.from_pretrained(base, version.path / "adapter").eval()(ids).logits
    assert torch.allclose(merged, adapted, atol=1e-5)


def test_the_version_behind(workshop: Workshop, recorded: Callable[..., None]) -> None:
    """However many stages lie between; none for another stage."""
    write_plan(workshop.folder, filter={"rules": [{"kind": "length", "min_chars": 1}]})
    recorded("generate", "filter")
    generated, filtered = workshop.make("generate", "filter")
    for version in (generated, filtered):
        found = workshop.run.behind(version, "generate")
        assert found is not None and found.path == generated.path
    assert workshop.run.behind(generated, "filter") is None


def test_models_are_loaded_once_each(workshop: Workshop) -> None:
    """Student, its teacher and those on the way are all named, so that they are fetched before the work begins."""
    stage = soft_label(teacher={"model": "org/big"}, schedule={"kind": "cascade", "through": [{"model": "org/mid"}]})
    assert stage.models(None) == [("x", ""), ("org/big", ""), ("org/mid", "")]
