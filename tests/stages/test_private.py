"""Private training: what is refused, a step to the letter, and the account of all steps."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline import console
from pipeline.errors import UsageError
from stages import dp_sgd
from stages.dp_sgd import Budget, Promise
from stages.objectives.base import Teaching
from stages.objectives.private import Private
from stages.objectives.sft import Sft
from stages.plan import load
from tests.helpers import record, write_plan
from tests.stages import tiny
from tests.stages.conftest import Workshop

ROOT = Path(__file__).resolve().parents[2]
ANSWER = "the fox found a boat and ran home ."
OTHER = "a bear tell moon . moon system"
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]}
QUICK = {
    "kind": "private", "epsilon": 3, "accountant": "rdp", "max_length": 64, "lora": LORA, "learning_rate": 1e-2,
    "lr_scheduler_type": "constant", "warmup_ratio": 0, "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
}  # fmt: skip


def private(**more: Any) -> Private:
    return Private.model_validate(QUICK | more)


def rows(*answers: str) -> Any:
    from datasets import Dataset

    asked = [record(answer, id=f"r{n}", prompt="tell me about the fox ?") for n, answer in enumerate(answers)]
    return Dataset.from_list([Sft().row(r) | {"id": r.id} for r in asked])


def trained(objective: Any, data: Any, folder: Path, *callbacks: Any) -> Any:
    trainer = objective.trainer(tiny.model(2), tiny.tokenizer(), data, folder, 1)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train()
    return trainer


def losses(trainer: Any, numbers: list[int]) -> list[float]:
    """What rows of the training data cost the model as it is."""
    import torch

    from stages.trainers.private import row_losses

    with torch.no_grad():
        batch = trainer.data_collator([trainer.train_dataset[n] for n in numbers])
        return list(row_losses(trainer.model.eval(), batch).tolist())


def weights(trainer: Any) -> Any:
    """All adapters in one vector."""
    import torch

    return torch.cat([p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad])


def noised(model: Any, optimizer: Any, *, noise: float, batch: int = 4, clip: float = 1.0) -> dp_sgd.Noised:
    return dp_sgd.Noised(model, optimizer, Budget(Promise(3, 1e-3, "rdp"), 16, batch, 10, noise), clip)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"epsilon": 20}, r"promises next to nothing.*485,165,195 to 1 \(e\^epsilon\).*raise max_epsilon \(now 10\)"),
        ({"epsilon": 1000}, "1e[+]304 to 1"),
        ({"epsilon": 4, "max_epsilon": 2}, "promises next to nothing"),
        ({"epsilon": 0}, "greater than 0"),
        ({"delta": 1}, "less than 1"),
        ({"lora": None}, "lora"),
        ({"train_sampling_strategy": "sequential"}, "random"),
        ({"config": {"packing": True}}, "promised by the row"),
        ({"config": {"padding_free": True}}, "promised by the row"),
        ({"config": {"weight_decay": 0.1, "neftune_noise_alpha": 5}}, "neftune_noise_alpha: private has its own loop"),
    ],
)
def test_what_promises_nothing_is_refused(more: dict[str, Any], why: str) -> None:
    """An epsilon without meaning is refused with its odds; settings that the promise or the loop cannot keep, too."""
    with pytest.raises(ValueError, match=f"(?s){why}"):
        private(**more)


def test_a_high_epsilon_can_be_meant() -> None:
    """Whoever states a higher limit gets it."""
    assert private(epsilon=20, max_epsilon=20).epsilon == 20


@pytest.mark.parametrize("delta", [0.01, 0.5])
def test_a_delta_that_would_publish_a_row_is_refused(delta: float) -> None:
    """A delta of 1/N or more is kept by giving away a row of N."""
    with pytest.raises(UsageError, match=r"not below 1/100: to publish one of the 100 rows(?s:.*)leave delta out"):
        private(delta=delta).budget(100, 10)


@pytest.mark.parametrize("count", [3, 10, 1000, 10**6])
def test_the_usual_delta_is_below_one_in_all_rows(count: int) -> None:
    """1 / (N ln N): meaningful from three rows on."""
    assert dp_sgd.usual_delta(count) == pytest.approx(1 / (count * math.log(count)))
    assert dp_sgd.usual_delta(count) < 1 / count


def test_a_step_cannot_draw_more_rows_than_there_are() -> None:
    """The message names both numbers."""
    with pytest.raises(UsageError, match=r"draws 16 rows .* only 10"):
        private().budget(10, 10)


def test_the_noise_is_weighed_against_the_rows() -> None:
    """A random walk in many directions against a line: more rows to a step, and more steps, are worth more."""
    one = Budget(Promise(3, 1e-3, "rdp"), 1000, 10, 100, 2.0)
    assert one.reach(10_000) == pytest.approx(2.0)
    assert one._replace(batch=20).reach(10_000) == pytest.approx(1.0)
    assert one._replace(steps=400).reach(10_000) == pytest.approx(1.0)


def test_the_generators_plan_loads(tmp_path: Path) -> None:
    """The example's first step is a plan of its own, for the teacher of the second."""
    plan = load(ROOT / "examples/private/generator.yaml")
    assert plan.train is not None
    assert isinstance(plan.train.objective, Private)
    assert plan.name in (ROOT / "examples/private/plan.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("accountant", "epsilon"), [("prv", 3.0), ("rdp", 3.0), ("rdp", 0.5)])
def test_the_noise_keeps_the_promise(accountant: Any, epsilon: float) -> None:
    """Epsilon is what Opacus' accountant says of those steps, not above the promise and not far below it."""
    from opacus.accountants import create_accountant

    budget = private(epsilon=epsilon, accountant=accountant).budget(400, 50)
    direct = create_accountant(mechanism=accountant)
    for _ in range(50):
        direct.step(noise_multiplier=budget.noise_multiplier, sample_rate=16 / 400)
    assert budget.spent([(budget.noise_multiplier, 16 / 400, 50)]) == direct.get_epsilon(budget.promise.delta)
    assert epsilon - 0.02 < direct.get_epsilon(budget.promise.delta) <= epsilon


@pytest.mark.slow
def test_a_promise_that_no_noise_keeps_is_refused() -> None:
    """An epsilon next to nothing asks for endless noise."""
    with pytest.raises(UsageError, match=r"no noise is found that keeps epsilon 1e-05(?s:.*)fewer epochs"):
        private(epsilon=1e-5).budget(400, 50)


@pytest.mark.slow
def test_a_step_is_the_sum_of_clipped_rows(tmp_path: Path) -> None:
    """Without noise a step is each row's own gradient, clipped over all adapters, summed, over the expected rows."""
    import torch

    from stages.trainers.private import row_losses

    answers = [ANSWER, OTHER, "home .", f"{ANSWER} {OTHER} {ANSWER}", "the moon"]
    trainer = private().trainer(tiny.model(2), tiny.tokenizer(), rows(*answers), tmp_path, 1)
    model = trainer.model.train()
    adapters = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():  # lora_B is zero at first, and lora_A's gradients with it
        for p in adapters:
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(3)), alpha=0.1)

    def loss(part: list[int]) -> Any:
        return row_losses(model, trainer.data_collator([trainer.train_dataset[n] for n in part])).sum()

    own = []
    for n in range(len(answers)):
        gradients = torch.autograd.grad(loss([n]), adapters)
        own.append(torch.cat([g.flatten() for g in gradients]))
    lengths = torch.stack(own).norm(dim=1)
    clip = float(lengths.median())
    expected = sum(g * min(1.0, clip / float(g.norm())) for g in own) / 4
    before = weights(trainer)
    step = noised(model, torch.optim.SGD(adapters, lr=1.0), noise=0, clip=clip)
    step.step([[0, 1, 2], [3, 4]], loss)
    step.close()
    assert (lengths > clip).any() and (lengths < clip).any()
    assert torch.allclose(before - weights(trainer), expected, rtol=1e-4, atol=1e-6)
    assert not any(hasattr(p, "grad_sample") for p in adapters)


@pytest.mark.slow
def test_the_noise_is_as_wide_as_it_should_be() -> None:
    """A step that draws no row is noise alone, noise_multiplier x max_grad_norm wide, and is on the account."""
    import torch

    model = torch.nn.Linear(100, 100, bias=False)
    step = noised(model, torch.optim.SGD(model.parameters(), lr=1.0), noise=1.5, clip=0.2)
    before = model.weight.detach().clone()
    step.step([], lambda part: None)
    first = before - model.weight.detach()
    assert float(first.std()) == pytest.approx(1.5 * 0.2 / 4, rel=0.05)
    assert step.state()["history"] == [(1.5, 4 / 16, 1)]
    step.step([], lambda part: None)
    second = before - first - model.weight.detach()
    assert abs(float((first * second).mean())) < 0.1 * float(first.std()) ** 2  # drawn anew


@pytest.mark.slow
def test_rows_are_drawn_each_by_itself() -> None:
    """Batches differ in size and average to the batch; every row has the same chance."""
    import torch

    model = torch.nn.Linear(2, 2)
    drawn = list(noised(model, torch.optim.SGD(model.parameters(), lr=1.0), noise=1).draws(2000))
    assert len({len(rows) for rows in drawn}) > 4
    assert sum(map(len, drawn)) / len(drawn) == pytest.approx(4, rel=0.05)
    counts = [sum(n in rows for rows in drawn) for n in range(16)]
    assert max(counts) < 1.25 * min(counts)


@pytest.mark.slow
def test_it_learns_and_tells_no_losses(tmp_path: Path, one_thread: None) -> None:
    """At epsilon 3 what all rows agree on is learned; the history holds steps and epsilon, no loss of any row."""
    objective = private(num_train_epochs=4)
    trainer = objective.trainer(tiny.model(2), tiny.tokenizer(), rows(*[ANSWER] * 240), tmp_path, 1)
    (before,) = losses(trainer, [0])
    trainer.train()
    (after,) = losses(trainer, [0])
    told = objective.figures(trainer)["privacy"]
    assert after < before * 0.93
    assert told["steps"] == trainer.state.global_step == 60
    assert told["target_epsilon"] - 0.02 < told["epsilon"] <= told["target_epsilon"]
    assert (told["unit"], told["sample_rate"], told["max_grad_norm"]) == ("row", 16 / 240, 0.1)
    assert [set(row) for row in trainer.state.log_history] == [{"step", "learning_rate", "epsilon"}] * 4
    assert f"epsilon {told['epsilon']:.2f} at delta" in objective.card({"privacy": told})


@pytest.mark.slow
def test_the_seed_of_the_plan_does_not_give_the_noise_away(tmp_path: Path, one_thread: None) -> None:
    """Two trainings of one plan differ: whoever knows the plan cannot take the noise off."""
    first, second = (
        trained(
            private(config={"max_steps": 2}),
            rows(*[ANSWER] * 40),
            tmp_path / n,
        )
        for n in "ab"
    )
    assert not (weights(first) == weights(second)).all()


@pytest.mark.slow
def test_a_resumed_training_is_the_same_training(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its second checkpoint and gone on with: the same weights, and every step on the account."""
    from transformers import TrainerCallback

    class Kill(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 7:
                raise KeyboardInterrupt

    monkeypatch.setattr("secrets.randbits", lambda bits: 5)
    objective, data = private(num_train_epochs=3), rows(*[ANSWER, OTHER] * 20)
    whole = trained(objective, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(objective, data, tmp_path / "cut", Kill())
    (checkpoint,) = (tmp_path / "cut").iterdir()
    assert checkpoint.name == "checkpoint-6"
    monkeypatch.setattr("secrets.randbits", lambda bits: 6)
    resumed = objective.trainer(tiny.model(2), tiny.tokenizer(), data, tmp_path / "cut", 1)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert (weights(resumed) == weights(whole)).all()
    assert objective.figures(resumed) == objective.figures(whole)
    assert resumed.state.log_history == whole.state.log_history


def audit(budget: Budget, trials: int = 500) -> float:
    """The least epsilon that trainings with and without one row, as unlike the others as can be, let somebody show.

    At 90 % confidence, by the best threshold on the trained weight.
    """
    import torch
    from scipy.stats import beta  # type: ignore[import-untyped]

    model = torch.nn.Linear(1, 1, bias=False)
    step = dp_sgd.Noised(model, torch.optim.SGD(model.parameters(), lr=1.0), budget, 1.0)

    def weights(secret: float) -> list[float]:
        found = []
        for _ in range(trials):
            torch.nn.init.zeros_(model.weight)
            for drawn in step.draws(budget.steps):
                given = torch.tensor([[-10.0 * secret * (n == 0)] for n in drawn])
                step.step([drawn] if drawn else [], lambda part, given=given: model(given).sum())  # type: ignore[misc]
            found.append(float(model.weight.detach()))
        return found

    there, not_there = weights(1), weights(0)
    shown = 0.0
    for cut in sorted(not_there)[trials // 2 :: 8]:
        hits, false = sum(w > cut for w in there), sum(w > cut for w in not_there)
        surely, at_most = beta.ppf(0.05, hits, trials - hits + 1), beta.ppf(0.95, false + 1, trials - false)
        if surely > budget.promise.delta:
            shown = max(shown, math.log((surely - budget.promise.delta) / at_most))
    return shown


@pytest.mark.slow
def test_an_attack_shows_no_more_than_was_promised(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees 500 models with and 500 without a row tells them apart within epsilon; with half the noise, not."""
    monkeypatch.setattr("secrets.randbits", lambda bits: 5)
    budget = dp_sgd.budget(Promise(1.0, 0.01, "prv"), rows=4, batch=2, steps=4)
    assert audit(budget) < 1
    assert audit(budget._replace(noise_multiplier=budget.noise_multiplier / 2)) > 1


@pytest.mark.slow
def test_adapters_of_embeddings_are_refused(tmp_path: Path) -> None:
    """Their gradients are not known row by row."""
    objective = private(lora={"r": 4, "target_modules": ["embed_tokens"]})
    with pytest.raises(UsageError, match=r"embed_tokens.*(?s:.*)target_modules: all-linear"):
        trained(objective, rows(*[ANSWER] * 40), tmp_path)


@pytest.mark.slow
def test_drowned_rows_are_warned_of(tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where noise outreaches the rows by far, the warning says so and what helps."""
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    trained(private(epsilon=0.05, config={"max_steps": 1}), rows(*[ANSWER] * 40), tmp_path)
    assert "times as far as all rows together could" in said[0]


@pytest.mark.slow
def test_repeated_rows_are_noted(tmp_path: Path) -> None:
    """A row that is there three times costs whoever it is about three times epsilon."""
    answers = [f"{word} {other}" for word in tiny.WORDS for other in ("moon", "bear")]
    draft = private().draft(whole=True)
    made = draft.trainer(tiny.model(1), tiny.tokenizer(), rows(*answers, ANSWER, ANSWER, ANSWER), tmp_path, 1)
    data = made.train_dataset
    (found,) = private().examine(data, Teaching())
    assert (found.fault.reason, found.rows, found.fault.refused) == ("repeated", 3, False)
    assert "3 times epsilon (9)" in found.fault.what


@pytest.mark.slow
def test_the_train_stage_states_the_promise(workshop: Workshop) -> None:
    """From a file of private rows to a model: epsilon in the manifest, no losses, the adapters merged."""
    folder = tiny.folder(workshop.folder / "tiny")
    examples = workshop.folder / "private.jsonl"
    row = {"prompt": "tell me about the fox ?", "completion": ANSWER}
    examples.write_text("\n".join(json.dumps(row) for _ in range(40)))
    write_plan(workshop.folder, train={"student": {"model": str(folder)}, "objective": QUICK | {"num_train_epochs": 1}})
    (version,) = workshop.make("train", input=str(examples))
    told = version.manifest.figures["privacy"]
    assert 2.9 < told["epsilon"] <= 3
    assert version.manifest.figures["first_loss"] is None
    assert "loss" not in (version.path / "metrics.jsonl").read_text()
    assert any("40 times epsilon" in note for note in version.manifest.notes)
    assert (version.path / "model/model.safetensors").is_file()
    assert not (version.path / "work").exists()
