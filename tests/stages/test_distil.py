"""Learning from the teacher itself: what must hold of every loss, on tiny models made on the spot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.trace import Trace
from stages.objectives import AnyObjective
from stages.objectives.base import Teaching
from stages.objectives.feature import Feature
from stages.objectives.sft import Sft
from stages.objectives.soft_label import SoftLabel
from stages.objectives.stored import Stored
from stages.sidecar import Sidecar
from tests.helpers import record
from tests.stages import tiny

pytestmark = pytest.mark.slow  # torch and TRL

ANSWERS = ["the fox ran home .", "a bear found the moon and a boat and ran .", "home ?", "the boat ran and ran ."]
PLAIN: dict[str, Any] = {
    "max_length": 64, "per_device_train_batch_size": 4, "learning_rate": 0.1, "lr_scheduler_type": "constant",
    "warmup_ratio": 0, "num_train_epochs": 1, "config": {"optim": "sgd", "max_grad_norm": 0, "save_strategy": "no"},
}  # fmt: skip
RELATIONS = {"layers": [[0, 1], [1, 3]], "of": "relations", "relation_heads": 2}
KINDS: dict[str, dict[str, Any]] = {
    "soft_label": {"kind": "soft_label"},
    "reverse": {"kind": "soft_label", "divergence": "reverse_kl", "temperature": 1, "alpha": 1},
    "cosine": {"kind": "feature", "features": {"layers": [[0, 1], [1, -1]]}},
    "mse": {"kind": "feature", "features": {"layers": [[1, 3]], "loss": "mse"}, "alpha": 0.5},
    "rows": {"kind": "attention", "attention": {"layers": [[0, 1], [1, 3]], "weight": 5}},
    "relations": {"kind": "attention", "attention": RELATIONS, "alpha": 0.5},
    "all": {"kind": "soft_label", "features": {"layers": [[1, 3]], "weight": 0.1}, "attention": RELATIONS},
}
ALL: dict[str, dict[str, Any]] = KINDS | {"sft": {"kind": "sft"}}


def objective(**settings: Any) -> Any:
    """Any objective, by its settings in a plan."""
    from pydantic import TypeAdapter

    return TypeAdapter(AnyObjective).validate_python(settings)


def rows(n: int = 8) -> Any:
    """Short conversations of different lengths."""
    from datasets import Dataset

    made = [record(ANSWERS[i % 4], prompt="tell me about the " + "fox " * (i % 3), id=f"r{i}") for i in range(n)]
    return Dataset.from_list([Sft().row(r) | {"id": r.id} for r in made])


def teacher(goal: Any, width: int = 48) -> Any:
    """A wider and deeper model than the student's, that is sure of what it says and where it looks."""
    import torch

    made = tiny.model(4, seed=9, hidden_size=width, attn=goal.attn_implementation)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.mul_(20 if "embed" in name else 10 if "q_proj" in name or "k_proj" in name else 1)
    return made


def trainer(goal: Any, folder: Path, *, data: Any = None, by: Any = None, student: Any = None) -> Any:
    """A trainer of a student of two layers."""
    student = student or tiny.model(2, attn=goal.attn_implementation)
    teaching = Teaching(by if by is not None else teacher(goal) if goal.learns_from == "teacher" else None)
    return goal.trainer(student, tiny.tokenizer(), data or rows(), folder, 1, teaching)


def weights(trained: Any) -> Any:
    """All parameters in one vector."""
    import torch

    return torch.cat([p.detach().flatten() for p in trained.model.parameters()])


def learned(goal: Any, folder: Path, **more: Any) -> Any:
    """The parameters after training."""
    made = trainer(goal, folder, **more)
    made.train()
    return weights(made)


def test_without_soft_labels_it_is_sft(tmp_path: Path) -> None:
    """alpha 0 leaves the cross-entropy that TRL's SFTTrainer has."""
    start = weights(trainer(Sft.model_validate(PLAIN), tmp_path / "s"))
    plain = learned(Sft.model_validate(PLAIN), tmp_path / "a")
    same = learned(SoftLabel.model_validate(PLAIN | {"alpha": 0}), tmp_path / "b")
    other = learned(SoftLabel.model_validate(PLAIN | {"alpha": 0.5}), tmp_path / "c")
    assert (plain - same).abs().max() < 1e-6
    assert (plain - start).abs().max() > 1e-3 and (plain - other).abs().max() > 1e-3


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_rkl", "tvd"])
def test_nothing_is_to_be_learned_from_oneself(divergence: str, tmp_path: Path) -> None:
    """Taught by its own copy, a student stays as it is, whatever the divergence."""
    goal = objective(kind="soft_label", alpha=1, divergence=divergence, **PLAIN)
    made = trainer(goal, tmp_path, by=tiny.model(2))
    before = weights(made)
    made.train()
    assert (weights(made) - before).abs().max() < 1e-6
    assert made.state.log_history[0]["kd"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_step_does_not_depend_on_how_its_rows_are_batched(name: str, tmp_path: Path) -> None:
    """4 x 1, 2 x 2 and 1 x 4 rows to a step are the same step, although their answers differ in length."""
    found = []
    for size, times in ((4, 1), (2, 2), (1, 4)):
        split = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        found.append(learned(objective(**PLAIN | ALL[name] | split), tmp_path / str(size)))
    start = weights(trainer(objective(**PLAIN | ALL[name]), tmp_path / "s"))
    assert (found[0] - start).abs().max() > 1e-3
    assert (found[0] - found[1]).abs().max() < 1e-6
    assert (found[0] - found[2]).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["sft", "soft_label", "cosine"])
def test_packed_rows_teach_what_rows_do(name: str, tmp_path: Path) -> None:
    """One packed row of several is as good as each by itself, for teacher and student."""
    whole = PLAIN | {"per_device_train_batch_size": 8}
    apart = learned(objective(**whole | ALL[name]), tmp_path / "a")
    packing = {"config": whole["config"] | {"packing": True}, "max_length": 120}
    packed = trainer(objective(**whole | ALL[name] | packing), tmp_path / "p")
    assert len(packed.train_dataset) < 8
    packed.train()
    assert (weights(packed) - apart).abs().max() < 1e-5


@pytest.mark.parametrize("wider", ["student", "teacher"])
def test_padding_of_a_vocabulary_teaches_nothing(wider: str, tmp_path: Path) -> None:
    """A head padded to another width has the same tokens, and gives the same soft labels."""
    goal = objective(kind="soft_label", alpha=1, **PLAIN)
    same = trainer(goal, tmp_path / "s", by=tiny.model(4, seed=9))
    padded = {"student": tiny.model(2), "by": tiny.model(4, seed=9)}
    padded["by" if wider == "teacher" else "student"].resize_token_embeddings(64, mean_resizing=False)
    other = trainer(goal, tmp_path / "p", **padded)
    same.train()
    other.train()
    assert other.state.log_history[0]["kd"] == pytest.approx(same.state.log_history[0]["kd"], rel=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_only_the_student_learns(name: str, tmp_path: Path) -> None:
    """The teacher keeps its weights, has no gradients and no dropout; every part of the student's loss falls."""
    steps = {"num_train_epochs": 15, "learning_rate": 0.01, "alpha": 1, "config": {"save_strategy": "no"}}
    goal = objective(**PLAIN | KINDS[name] | steps)
    by = teacher(goal)
    before = {key: tensor.clone() for key, tensor in by.state_dict().items()}
    made = trainer(goal, tmp_path, by=by)
    made.train()
    assert all((tensor == before[key]).all() for key, tensor in by.state_dict().items())
    assert all(p.grad is None for p in by.parameters()) and not by.training
    parts = [row for row in made.state.log_history if "loss" in row]
    assert parts[-1]["loss"] < 0.8 * parts[0]["loss"]
    for part in parts[0].keys() & {"kd", *(n for n in parts[0] if n.startswith(("feature", "attention")))}:
        assert parts[-1][part] < 0.9 * parts[0][part], part


@pytest.mark.parametrize("name", ["soft_label", "mse", "relations"])
def test_adapters_learn_too(name: str, tmp_path: Path) -> None:
    """With LoRA the base stays, and the loss falls."""
    steps = {"num_train_epochs": 20, "learning_rate": 0.002, "alpha": 1, "config": {"save_strategy": "no"}}
    whole = {"lora": {"r": 8}, "per_device_train_batch_size": 8}  # every step sees every row: losses compare
    made = trainer(objective(**PLAIN | KINDS[name] | steps | whole), tmp_path)
    base = {n: p.clone() for n, p in made.model.named_parameters() if "lora" not in n}
    made.train()
    losses = [row["loss"] for row in made.state.log_history if "loss" in row]
    assert losses[-1] < 0.99 * losses[0]  # frozen embeddings leave little to learn
    assert all((p == base[n]).all() for n, p in made.model.named_parameters() if n in base)


@pytest.mark.parametrize("name", ["sft", "soft_label", "mse", "relations"])
def test_a_resumed_training_is_the_one_that_was_not_stopped(name: str, tmp_path: Path) -> None:
    """Student, optimizer and projectors go on from the checkpoint."""
    config = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 5}
    goal = objective(**PLAIN | {"config": config, "num_train_epochs": 3, "learning_rate": 0.01} | ALL[name])
    whole = trainer(goal, tmp_path / "whole")
    whole.train()
    again = trainer(goal, tmp_path / "again")
    again.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-2"))
    assert again.state.global_step == whole.state.global_step == 6
    assert (weights(again) - weights(whole)).abs().max() == 0
    if name == "mse":
        ours, theirs = (next(iter(made.projectors.parameters())) for made in (again, whole))
        assert (ours - theirs).abs().max() == 0


def test_projectors_forget_the_gradients_of_the_last_step(tmp_path: Path) -> None:
    """The trainer zeroes those of its model alone."""
    made = trainer(Feature.model_validate(PLAIN | KINDS["mse"]), tmp_path)
    made.train()
    assert all(p.grad is None or not p.grad.any() for p in made.projectors.parameters())


def losses_of(goal: Any, folder: Path, change: Callable[[Any], Any], **more: Any) -> tuple[float, float]:
    """The loss of one batch, as it is and changed."""
    made = trainer(goal, folder, **more)
    made.model.train()
    batch = made.data_collator(list(made.train_dataset)[:4])
    return tuple(made.compute_loss(made.model, dict(b)).item() for b in (batch, change(batch)))


@pytest.mark.parametrize("name", KINDS)
def test_padding_does_not_matter(name: str, tmp_path: Path) -> None:
    """More of it, or other tokens in it, gives the same loss."""
    import torch

    def padded(batch: Any) -> Any:
        more = {"input_ids": 7, "labels": -100, "attention_mask": 0}
        return {n: torch.cat([batch[n], torch.full((4, 5), value)], 1) for n, value in more.items()}

    before, after = losses_of(objective(**PLAIN | KINDS[name]), tmp_path, padded)
    assert after == pytest.approx(before, rel=1e-5)


def test_what_is_not_trained_does_not_matter(tmp_path: Path) -> None:
    """A row all of whose labels are masked adds nothing to the soft labels of the others."""
    import torch

    def more(batch: Any) -> Any:
        row = {"input_ids": batch["input_ids"][:1], "labels": batch["labels"][:1] * 0 - 100}
        row["attention_mask"] = batch["attention_mask"][:1]
        return {n: torch.cat([batch[n], row[n]]) for n in row}

    before, after = losses_of(objective(kind="soft_label", **PLAIN), tmp_path, more)
    assert after == pytest.approx(before, rel=1e-5)


def test_many_positions_are_the_sum_of_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distributions are compared some positions at a time; the loss is that of all."""
    goal = objective(kind="soft_label", **PLAIN)
    whole = learned(goal, tmp_path / "a")
    monkeypatch.setattr("stages.trainers.distil.CHUNK", 3)
    assert (learned(goal, tmp_path / "b") - whole).abs().max() < 1e-6


def store(by: Any, data: Any, folder: Path, k: int) -> Stored:
    """What the teacher would have stored of the answers of rows that have their tokens."""
    import torch

    folder.mkdir()
    sidecar = Sidecar(folder, "big")
    for row in data:
        first = next(n for n, label in enumerate(row["labels"]) if label != -100)
        with torch.no_grad():
            logprobs = by(torch.tensor([row["input_ids"]])).logits[0, first - 1 : -1].log_softmax(-1)
        tokens = row["input_ids"][first:]
        top = [list(enumerate(place.tolist())) for place in logprobs]
        sidecar.add(row["id"], Trace.pack(k, tokens, [-1.0] * len(tokens), top))
    sidecar.close()
    return Stored(sorted(folder.glob("*.safetensors")))


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd"])
def test_a_whole_stored_vocabulary_teaches_what_the_teacher_does(divergence: str, tmp_path: Path) -> None:
    """Offline with k = vocabulary is online at temperature 1; with fewer it is close."""
    plain = PLAIN | {"kind": "soft_label", "divergence": divergence}
    live = objective(**plain, temperature=1)
    by = teacher(live)
    online = learned(live, tmp_path / "live", by=by)
    start = weights(trainer(live, tmp_path / "start", by=by))
    data = trainer(live, tmp_path / "rows", by=by).train_dataset
    away = []
    for k in (by.config.vocab_size, 4):
        stored = store(by, data, tmp_path / f"k{k}", k)
        goal = objective(**plain, stored=True)
        assert (goal.temperature, goal.learns_from) == (1, "stored")
        made = goal.trainer(tiny.model(2), tiny.tokenizer(), rows(), tmp_path / f"t{k}", 1, Teaching(stored=stored))
        made.train()
        away.append(((weights(made) - online).norm() / (online - start).norm()).item())
    assert away[0] < 2e-3  # stored in float16
    assert away[0] < away[1] < 0.5


def test_rows_of_which_nothing_is_stored_learn_from_their_words(tmp_path: Path) -> None:
    """Their loss is cross-entropy with full weight: a token itself is all that is known of the teacher."""
    live = objective(kind="soft_label", **PLAIN)
    data = trainer(live, tmp_path / "rows").train_dataset
    empty = store(teacher(live), data.select([0]), tmp_path / "k", 4)
    goal = objective(kind="soft_label", stored=True, **PLAIN)
    made = goal.trainer(
        tiny.model(2), tiny.tokenizer(), rows().select(range(1, 8)), tmp_path / "t", 1, Teaching(stored=empty)
    )
    made.train()
    plain = trainer(Sft.model_validate(PLAIN), tmp_path / "sft", data=rows().select(range(1, 8)))
    plain.train()
    assert (weights(made) - weights(plain)).abs().max() < 1e-6


def test_rows_without_stored_numbers_are_told_and_many_are_refused(tmp_path: Path) -> None:
    """The preflight says how much is covered; another tokenizer, or edited answers, would leave nothing."""
    live = objective(kind="soft_label", **PLAIN)
    data = trainer(live, tmp_path / "rows").train_dataset
    goal = objective(kind="soft_label", stored=True, **PLAIN)
    some = goal.examine(data, Teaching(stored=store(teacher(live), data.select(range(6)), tmp_path / "a", 4)))
    few = goal.examine(data, Teaching(stored=store(teacher(live), data.select(range(2)), tmp_path / "b", 4)))
    assert [f.fault.reason for f in some] == ["stored", "not_stored"] and "(4 each)" in some[0].fault.what
    assert (some[1].rows, some[1].id, some[1].fault.refused) == (2, "r6", False)
    assert (few[1].rows, few[1].fault.refused) == (6, True)
