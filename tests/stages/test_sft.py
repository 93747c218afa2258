"""Supervised fine-tuning: the rows it trains on, and a loss that falls."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.records import Message
from stages.objectives.sft import Sft
from tests.helpers import record, write_plan
from tests.stages import tiny
from tests.stages.conftest import Workshop

ANSWER = "the fox found a boat and ran home ."


def test_a_row_is_prompt_and_completion() -> None:
    """All turns but the last are the prompt; the last answer is the completion."""
    row = Sft().row(record("yes", prompt="no?"))
    assert row == {
        "prompt": [{"role": "user", "content": "no?"}], "completion": [{"role": "assistant", "content": "yes"}],
    }  # fmt: skip


@pytest.mark.parametrize("roles", [["user"], ["assistant"], ["user", "assistant", "user"]])
def test_a_record_that_does_not_end_with_an_answer_is_refused(roles: list[Any]) -> None:
    """There is nothing to teach in it, and the message names it."""
    turns = [Message(role=role, content="x") for role in roles]
    with pytest.raises(UsageError, match="record r1 does not end with an answer"):
        Sft().row(record(messages=turns))


def rows(n: int = 8) -> Any:
    from datasets import Dataset

    return Dataset.from_list([Sft().row(record(ANSWER, prompt="tell me about the fox ?")) for _ in range(n)])


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"r": 4, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]}])
def test_the_loss_falls(tmp_path: Path, lora: dict[str, Any] | None) -> None:
    """A few steps on one answer make it likelier, with full weights and with adapters."""
    steps = {"num_train_epochs": 6, "per_device_train_batch_size": 4, "max_length": 64}
    rate = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "warmup_ratio": 0}
    objective = Sft.model_validate(steps | rate | {"lora": lora, "config": {"save_strategy": "no"}})
    trainer = objective.trainer(tiny.model(2), tiny.tokenizer(), rows(), tmp_path / "out", seed=1)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) >= 2
    assert losses[-1] < losses[0] * 0.9


@pytest.mark.slow
@pytest.mark.parametrize("counted", [None, 40])
def test_the_loss_on_a_cpu_is_trls_own(tmp_path: Path, counted: int | None) -> None:
    """Computed at the trained positions only, loss and gradients are those of TRL's SFTTrainer."""
    import torch
    from datasets import concatenate_datasets
    from trl import SFTTrainer

    longer = rows(4).map(lambda row: row | {"completion": [{"role": "assistant", "content": f"{ANSWER} {ANSWER}"}]})
    data = concatenate_datasets([rows(4), longer])
    results = []
    for name in ("ours", "theirs"):
        trainer = Sft(max_length=64).trainer(tiny.model(2), tiny.tokenizer(), data, tmp_path / name, seed=1)
        assert type(trainer) is not SFTTrainer
        compute = type(trainer).compute_loss if name == "ours" else SFTTrainer.compute_loss
        trainer.model.train()
        batch = next(iter(trainer.get_train_dataloader()))
        loss = compute(trainer, trainer.model, dict(batch), num_items_in_batch=counted)
        loss.backward()
        results.append((loss.item(), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])))
    (ours, our_gradients), (theirs, their_gradients) = results
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert torch.allclose(our_gradients, their_gradients, rtol=1e-3, atol=1e-6)
    assert their_gradients.abs().max() > 1e-3


@pytest.mark.slow
def test_only_the_answer_teaches(tmp_path: Path) -> None:
    """The trainer's labels are the answer's tokens with its end, and nothing of the prompt."""
    trainer = Sft(max_length=64).trainer(tiny.model(2), tiny.tokenizer(), rows(1), tmp_path / "out", seed=1)
    (batch,) = trainer.get_train_dataloader()
    taught = [t for t in batch["labels"][0].tolist() if t != -100]
    assert tiny.tokenizer().decode(taught) == f"{ANSWER} </s>"


@pytest.mark.slow
def test_an_argument_trl_does_not_know_is_refused(tmp_path: Path) -> None:
    """A misspelt SFTConfig argument names the place in the plan."""
    with pytest.raises(UsageError, match=r"train\.objective\.config: .*no_such_argument"):
        Sft(config={"no_such_argument": 1}).trainer(tiny.model(1), tiny.tokenizer(), rows(1), tmp_path / "out", 1)


@pytest.mark.slow
def test_the_train_stage_makes_a_model(workshop: Workshop) -> None:
    """From a file of examples to a student on disk: rows, metrics, card, figures; trained again it is up to date."""
    teacher = tiny.folder(workshop.folder / "model")
    examples = workshop.folder / "examples.jsonl"
    row = {"prompt": "tell me about the fox ?", "completion": ANSWER}
    examples.write_text("\n".join(json.dumps(row) for _ in range(8)))
    objective = {"kind": "sft", "num_train_epochs": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 4}
    train = {"student": {"init": {"layers": [0, 3]}}, "objective": objective | {"max_length": 64}}
    write_plan(workshop.folder, train=train)
    (teacher / "config.json").unlink()
    tiny.folder(teacher)
    (version,) = workshop.make("train", input=str(examples))
    figures = version.manifest.figures
    assert (figures["rows"], figures["steps"]) == (8, 4)
    assert figures["ratio"] > 1
    assert {"model/model.safetensors", "model/README.md", "rows.jsonl", "metrics.jsonl"} <= {
        f.file for f in version.manifest.files
    }
    assert not (version.path / "work").exists()
    (again,) = workshop.make("train", input=str(examples))
    assert again.name == version.name
