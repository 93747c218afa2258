"""Answer and reasoning as two tasks: their rows, their shares of the loss."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.records import Record
from stages.objectives.base import Given, Left
from stages.objectives.step_by_step import StepByStep
from tests.helpers import record
from tests.stages import tiny

PLAIN: dict[str, Any] = {
    "max_length": 64, "per_device_train_batch_size": 4, "learning_rate": 0.1, "lr_scheduler_type": "constant",
    "warmup_ratio": 0, "num_train_epochs": 1,
    "config": {"optim": "sgd", "max_grad_norm": 0, "save_strategy": "no", "shuffle_dataset": False},
}  # fmt: skip


def thought(n: int, reasoning: str = "the bear ran and the fox ran and found the moon .") -> Record:
    """A record of the task `reason`."""
    return record("home .", prompt="tell me about the fox", id=f"r{n}").model_copy(update={"reasoning": reasoning})


class Rows:
    """Records by themselves."""

    def __init__(self, *records: Record) -> None:
        self.records = records

    def read(self, shard: str) -> Any:
        """All of them."""
        return iter(self.records)


def given(*records: Record) -> Given:
    """What a stage gives an objective."""
    return Given(Rows(*records), lambda stage: None, {}, None)  # type: ignore[arg-type]


def test_a_record_gives_two_rows() -> None:
    """The reasoning is asked for by a word before the prompt; the answer is asked for as always."""
    answer, reasoning = StepByStep().rows(given(thought(1)))
    assert isinstance(answer, dict) and isinstance(reasoning, dict)
    assert (answer["id"], answer["task"], reasoning["id"], reasoning["task"]) == ("r1", "answer", "r1", "reasoning")
    assert answer["prompt"][-1]["content"] == "tell me about the fox"
    assert reasoning["prompt"][-1]["content"] == "explain: tell me about the fox"
    assert answer["completion"][0]["content"] == "home ."
    assert reasoning["completion"][0]["content"].startswith("the bear ran")


def test_records_without_reasoning_are_left_and_counted() -> None:
    """Where none has any, the message says which task gives it."""
    found = list(StepByStep().rows(given(thought(1), thought(2, " "))))
    assert found[2:] == [Left("r2", "no_reasoning")]
    with pytest.raises(UsageError, match=r"task: \{kind: reason\}"):
        list(StepByStep().rows(given(thought(1, ""))))


@pytest.mark.parametrize("wrong", [{"reasoning_prefix": ""}, {"config": {"packing": True}}, {"alpha": 1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """Two tasks that look the same, rows that lose their task, a task without weight."""
    with pytest.raises(ValidationError):
        StepByStep.model_validate(wrong)


def trained(goal: StepByStep, folder: Path, records: int = 4) -> Any:
    """A trainer over some records."""
    from datasets import Dataset

    rows = Dataset.from_list(list(goal.rows(given(*(thought(n) for n in range(records))))))
    return goal.trainer(tiny.model(2), tiny.tokenizer(), rows, folder, 1)


def flat(model: Any) -> Any:
    """All parameters in one vector."""
    import torch

    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_each_task_counts_with_the_mean_of_its_own_tokens(alpha: float, tmp_path: Path) -> None:
    """However much longer the reasoning is."""
    import torch

    made = trained(StepByStep.model_validate(PLAIN | {"alpha": alpha, "per_device_train_batch_size": 8}), tmp_path)
    made.model.train()
    batch = made.data_collator(list(made.train_dataset))
    count = (batch["labels"] != -100).sum()
    ours = made.compute_loss(made.model, dict(batch), num_items_in_batch=count).item()
    logits = made.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:], reduction="none")
    means = []
    for task in ("answer", "reasoning"):
        rows = torch.tensor([row["task"] == task for row in made.train_dataset])
        means.append((each[rows].sum() / (batch["labels"][rows] != -100).sum()).item())
    assert ours == pytest.approx(alpha * means[0] + (1 - alpha) * means[1], rel=1e-5)


@pytest.mark.slow
def test_a_step_does_not_depend_on_how_its_rows_are_batched(tmp_path: Path) -> None:
    """4 x 1, 2 x 2 and 1 x 4 rows to a step are the same step."""
    found = []
    for size, times in ((4, 1), (2, 2), (1, 4)):
        split = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        made = trained(StepByStep.model_validate(PLAIN | split), tmp_path / str(size))
        made.train()
        found.append(flat(made.model))
    assert (found[0] - flat(tiny.model(2))).abs().max() > 1e-3
    assert (found[0] - found[1]).abs().max() < 1e-6 and (found[0] - found[2]).abs().max() < 1e-6


@pytest.mark.slow
def test_the_loss_falls(tmp_path: Path) -> None:
    """On a planted task."""
    steps = {"num_train_epochs": 8, "learning_rate": 0.01, "config": {"save_strategy": "no"}}
    made = trained(StepByStep.model_validate(PLAIN | steps), tmp_path)
    made.train()
    losses = [row["loss"] for row in made.state.log_history if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
