"""Answers that the student writes while it trains: what is compared, on which tokens, in which steps."""

import copy
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.records import Message
from stages import preflight
from stages.objectives.base import Model, Teaching
from stages.objectives.gkd import Gkd
from stages.objectives.on_policy import OnPolicy
from stages.objectives.reverse_kl import ReverseKl
from stages.objectives.sft import Sft
from stages.student import blank
from tests.helpers import record
from tests.stages import tiny

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # torch and TRL

ANSWER = "the fox found a boat and ran home ."
ANSWERS = [ANSWER, "a bear .", "the moon about me found the boat", "tell me and the bear ran", "home ?"]
ALL = {"max_length": 64, "max_completion_length": 8, "warmup_ratio": 0, "lr_scheduler_type": "constant"}
OWN: dict[str, Any] = {"lora": None} | ALL


def rows(*answers: str, prompt: str = "tell me about the fox ?") -> Any:
    """Rows as the train stage makes them; records are called r0, r1 ..."""
    from datasets import Dataset

    made = [record(answer, id=f"r{n}", prompt=prompt + " the" * n) for n, answer in enumerate(answers)]
    return Dataset.from_list([Sft().row(one) | {"id": one.id} for one in made])


def prepared(objective: OnPolicy, data: Any, folder: Path) -> Any:
    """The rows that a draft's trainer has made."""
    model, tokenizer = blank(str(tiny.folder(folder / "blank")))
    return objective.draft(whole=True).trainer(model, tokenizer, data, folder / "draft", 0).train_dataset


def sharp(layers: int, seed: int) -> Any:
    """A tiny model that prefers some tokens to others: a fresh one hardly does."""
    import torch

    made = tiny.model(layers, seed=seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    return made


def trainer(objective: OnPolicy, folder: Path, data: Any, *, teacher: Any = None, student: Any = None) -> Any:
    """A trainer of a random student of one layer under a random teacher of three."""
    teacher = teacher or sharp(3, seed=5)
    return objective.trainer(student or sharp(1, seed=1), tiny.tokenizer(), data, folder / "out", 7, Teaching(teacher))


def gkd(**more: Any) -> Gkd:
    """By default every answer is given."""
    config = {"save_strategy": "no"} | more.pop("config", {})
    return Gkd.model_validate(ALL | {"lmbda": 0.0, "config": config} | more)


def gradient(model: Any) -> Any:
    """Of all parameters, as one vector."""
    import torch

    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def weights(model: Any) -> Any:
    """All parameters, as one vector."""
    import torch

    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(("beta", "kind"), [(0.0, "forward_kl"), (0.3, "jsd"), (0.5, "jsd"), (1.0, "reverse_kl")])
def test_on_given_answers_it_is_the_divergence(tmp_path: Path, beta: float, kind: Any, temperature: float) -> None:
    """Loss and gradient are those of our own formula on the same tokens: prompts and padding left out, one mean."""
    import torch

    from stages.objectives.divergence import between, softened

    data = prepared(gkd(), rows(*ANSWERS), tmp_path)
    made = trainer(gkd(beta=beta, temperature=temperature), tmp_path, data)
    student, teacher = sharp(1, seed=1), sharp(3, seed=5)
    apart: list[Any] = []
    for row in data:
        trained = torch.tensor(row["labels"])[1:] != -100
        whole = torch.tensor([row["input_ids"]])
        p, q = (softened(model(whole).logits[0, :-1][trained], temperature) for model in (teacher, student))
        apart += between(p.detach(), q, kind, beta=beta).unbind()
    expected = sum(apart) / len(apart)
    expected.backward()
    loss = made.training_step(made.model, list(data))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert gradient(made.model).allclose(gradient(student), rtol=1e-3, atol=1e-7)
    assert gradient(student).abs().max() > 1e-4


@pytest.mark.parametrize("objective", [ReverseKl.model_validate(OWN), gkd(beta=0.5, lmbda=0.5), gkd(beta=0.0)])
def test_a_student_that_is_its_teacher_learns_nothing(tmp_path: Path, objective: OnPolicy) -> None:
    """Zero loss, zero gradient."""
    made = trainer(objective, tmp_path, rows(*ANSWERS), teacher=sharp(2, seed=3), student=sharp(2, seed=3))
    assert made.training_step(made.model, list(made.train_dataset)).item() == pytest.approx(0, abs=1e-6)
    assert gradient(made.model).abs().max() < 1e-6


def test_a_student_learns_what_its_teacher_would_say(tmp_path: Path) -> None:
    """The teacher says one thing; taught on its own answers the student comes to say it, and the teacher stays."""
    knows = Sft(num_train_epochs=12, learning_rate=2e-2, per_device_train_batch_size=4, max_length=64)
    knowing = knows.trainer(tiny.model(2, seed=5), tiny.tokenizer(), rows(*[ANSWER] * 8), tmp_path / "teacher", 1)
    knowing.train()
    teacher = knowing.model.eval()
    before = weights(teacher)
    objective = ReverseKl.model_validate(
        OWN | {"num_train_epochs": 15, "learning_rate": 1e-2, "per_device_train_batch_size": 8}
        | {"max_completion_length": 12, "config": {"save_strategy": "no", "logging_steps": 1}}
    )  # fmt: skip
    made = trainer(objective, tmp_path, rows(*[ANSWERS[1]] * 8), teacher=teacher)
    made.train()
    losses = [row["loss"] for row in made.state.log_history if "loss" in row]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    assert weights(teacher).equal(before)
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert objective.figures(made)["answer_tokens"] <= 12


def update(objective: OnPolicy, folder: Path, data: Any, order: Any = None) -> Any:
    """The student's weights after training."""
    made = trainer(objective, folder, data)
    made.train()
    return weights(made.model)


def test_given_answers_are_there_whatever_trl_leaves_out(tmp_path: Path) -> None:
    """Told to remove the columns that it does not use, it keeps those of the given answers."""
    bare, whole = (
        update(gkd(config={"remove_unused_columns": remove}), tmp_path / str(remove), rows(*ANSWERS))
        for remove in (True, False)
    )
    assert bare.equal(whole)


def test_a_step_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    """4 rows at once, 2 x 2 and 1 x 4: the same weights, with a last step that is not full; 5 rows: others."""
    data = prepared(gkd(), rows(*ANSWERS), tmp_path)
    steps = {"num_train_epochs": 2, "learning_rate": 0.5, "config": {"optim": "sgd"}}  # a step is a gradient, unscaled
    whole, *cut = (
        update(gkd(per_device_train_batch_size=n, gradient_accumulation_steps=m, **steps), tmp_path / str(n), data)
        for n, m in ((4, 1), (2, 2), (1, 4), (5, 1))
    )
    *same, other = cut
    assert all(one.allclose(whole, atol=1e-5) for one in same)
    assert not other.allclose(whole, atol=1e-3)


@pytest.mark.parametrize("at", [2, 3])
def test_a_resumed_training_is_the_same(tmp_path: Path, at: int) -> None:
    """Killed within an epoch (of 3 steps) or at its end: draws, answers and weights are those of one that was not."""
    checkpoints = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 10}
    steps = {"num_train_epochs": 3, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
    objective = gkd(lmbda=0.5, learning_rate=1e-2, config=checkpoints, **steps)
    once = trainer(objective, tmp_path / "once", rows(*ANSWERS))
    once.train()
    assert once.state.global_step == 9
    again = trainer(objective, tmp_path / "again", rows(*ANSWERS))
    again.train(resume_from_checkpoint=str(tmp_path / f"once/out/checkpoint-{at}"))
    assert weights(again.model).equal(weights(once.model))
    shares = [row["own_answers"] for row in once.state.log_history if "own_answers" in row]
    assert [row["own_answers"] for row in again.state.log_history if "own_answers" in row] == shares
    assert len(set(shares)) > 1
    straight = trainer(objective.model_copy(update={"lmbda": 1.0}), tmp_path / "own", rows(*ANSWERS))
    straight.train()
    assert not weights(straight.model).allclose(weights(once.model), atol=1e-4)


class Watched:
    """What a trainer made of the rows of its steps: prompts and answers as text."""

    def __init__(self, made: Any) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self.made, self.generate = made, made._generate_and_score_completions
        made._generate_and_score_completions = self

    def __call__(self, inputs: Any) -> Any:
        """In the place of the trainer's own."""
        batch = self.generate(inputs)
        self.sizes.append(len(inputs))
        for n in range(len(inputs)):
            prompt, answer = (
                self.made.processing_class.decode(batch[f"{part}_ids"][n][batch[f"{part}_mask"][n] == 1])
                for part in ("prompt", "completion")
            )
            self.pairs.append((prompt, answer))
        return batch


@pytest.mark.parametrize(("size", "accumulate", "count"), [(2, 1, 5), (1, 2, 5), (1, 4, 5), (3, 2, 5), (2, 4, 3)])
def test_no_row_is_lost(tmp_path: Path, size: int, accumulate: int, count: int) -> None:
    """Each epoch has each row once, in as many steps as the look before training says; at most `size` rows at once."""
    objective = gkd(
        per_device_train_batch_size=size, gradient_accumulation_steps=accumulate, num_train_epochs=2, lmbda=0.0
    )
    data = rows(*ANSWERS[:count])
    student = blank(str(tiny.folder(tmp_path / "model")))
    found = preflight.examine(objective, student, data, tmp_path / "look", teacher=frozenset(), max_cut=0)
    found.refuse()
    made = trainer(objective, tmp_path, found.data)
    watched = Watched(made)
    made.train()
    assert made.state.global_step == found.steps == 2 * -(-count // (size * accumulate))
    texts = [answer.removesuffix(" </s>") for _, answer in watched.pairs]
    assert sorted(texts[:count]) == sorted(texts[count:]) == sorted(ANSWERS[:count])
    assert max(watched.sizes) <= size


def test_parts_of_an_epoch_count_as_they_are_told(tmp_path: Path) -> None:
    """1.5 epochs of two steps are three."""
    objective = gkd(per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=1.5)
    student = blank(str(tiny.folder(tmp_path / "model")))
    found = preflight.examine(objective, student, rows(*ANSWERS), tmp_path / "l", teacher=frozenset(), max_cut=0)
    made = trainer(objective, tmp_path, found.data)
    made.train()
    assert made.state.global_step == found.steps == 3


def test_halved_batches_take_the_same_steps(tmp_path: Path) -> None:
    """What a smaller memory is given differs in the rows at once alone."""
    whole = gkd(per_device_train_batch_size=4, num_train_epochs=2)
    half = whole.halved()
    assert half is not None and half.per_device_train_batch_size == 2
    data = rows(*ANSWERS)
    assert update(half, tmp_path / "half", data).allclose(update(whole, tmp_path / "whole", data), atol=1e-6)


def test_given_and_own_answers_stand_side_by_side(tmp_path: Path) -> None:
    """About a share of lmbda is the student's own; own answers are bounded, given ones are whole, and all end once."""
    objective = gkd(lmbda=0.5, max_completion_length=3, per_device_train_batch_size=5, num_train_epochs=8)
    made = trainer(objective, tmp_path, rows(*ANSWERS))
    watched = Watched(made)
    made.train()
    prompt = "<s> user tell me about the fox ?"
    given = {f"{answer} </s>" for answer in ANSWERS}
    own = [answer for _, answer in watched.pairs if answer not in given]
    assert 8 < len(own) < 32
    assert all(asked.startswith(prompt) and asked.endswith("</s> <s> assistant") for asked, _ in watched.pairs)
    assert all(len(answer.split()) <= 3 and "</s>" not in answer[:-4] for answer in own)


def test_an_answer_ends_where_the_student_would_stop(tmp_path: Path) -> None:
    """What a template writes after the end of a turn is no part of the answer."""
    made = trainer(gkd(), tmp_path, rows(*ANSWERS[:1]))
    home, ran = tiny.tokenizer().convert_tokens_to_ids(["home", "ran"])
    row = {"input_ids": [1, ran, 2, 1, home, ran, 2, home], "labels": [-100] * 4 + [home, ran, 2, home]}
    assert made._answered(row) == ([1, ran, 2, 1], [home, ran, 2])
    made.max_length = 6
    assert made._answered(row) == ([1, ran, 2, 1], [home, ran])


def test_max_length_bounds_prompt_and_answer(tmp_path: Path) -> None:
    """Given answers and own ones are cut there; a row with no room for an answer is left out, as the look says."""
    data = rows(ANSWER, "a bear .", "home ?", prompt="the moon")  # prompts of 7, 8 and 9 tokens
    for objective in (gkd(max_length=9), ReverseKl.model_validate(OWN | {"max_length": 9})):
        student = blank(str(tiny.folder(tmp_path / "model")))
        found = preflight.examine(objective, student, data, tmp_path / "look", teacher=frozenset(), max_cut=1)
        assert (found.rows, found.lost) == (3, 1)
        made = trainer(objective, tmp_path / objective.kind, found.data)
        watched = Watched(made)
        made.training_step(made.model, list(made.train_dataset))
        assert len(watched.pairs) == 2
        assert all(len(f"{prompt} {answer}".split()) <= 9 for prompt, answer in watched.pairs)


def test_bare_rows_are_made_into_the_same(tmp_path: Path) -> None:
    """Rows that no draft has prepared get the tokens that one would give them; turns before the last are the prompt."""
    talk = [("user", "the fox ?"), ("assistant", "a bear ."), ("user", "and the moon ?"), ("assistant", "ran home .")]
    turns = [Message.model_validate({"role": role, "content": text}) for role, text in talk]
    bare = rows(*ANSWERS).add_item(Sft().row(record(messages=turns)) | {"id": "talk"})
    done = prepared(gkd(), bare, tmp_path)
    for columns in ("input_ids", "labels", "id"):
        assert list(trainer(gkd(), tmp_path, bare).train_dataset[columns]) == list(done[columns])
    assert tiny.tokenizer().decode([n for n in done[5]["labels"] if n != -100]) == "ran home . </s>"


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_adapters_train_alone(tmp_path: Path, dropout: float) -> None:
    """With LoRA the student's own weights stay as they are; dropout is off unless the adapters are given one."""
    import torch

    lora = {"r": 4, "lora_dropout": dropout}
    objective = gkd(lmbda=0.5, lora=lora, learning_rate=1e-2, per_device_train_batch_size=4)
    made = trainer(objective, tmp_path, rows(*ANSWERS))
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    made.train()
    changed = {name for name, p in made.model.named_parameters() if not p.equal(before[name])}
    assert changed and all("lora_" in name for name in changed)
    assert {m.p for m in made.model.modules() if isinstance(m, torch.nn.Dropout)} <= {dropout}
    assert made.args.disable_dropout is (dropout == 0)


def padded(model: Any, room: int) -> Any:
    """The same model with room for more tokens, whose logits are large."""
    import torch

    model.resize_token_embeddings(room, mean_resizing=False)
    torch.nn.init.normal_(model.get_input_embeddings().weight[len(tiny.WORDS) + 4 :].data, std=1)
    return model


def test_a_wider_teacher_is_cut_to_the_students_room(tmp_path: Path) -> None:
    """Beyond are no tokens: the loss is that of the same teacher without them."""
    data = rows(*ANSWERS)
    losses = []
    for teacher in (sharp(3, seed=5), padded(sharp(3, seed=5), 32)):
        made = trainer(gkd(), tmp_path, data, teacher=teacher)
        losses.append(made.training_step(made.model, list(made.train_dataset)).item())
        assert not any(p.requires_grad for p in teacher.parameters())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_other_rooms_and_other_tokens_are_refused() -> None:
    """A student wider than its teacher, one without room for its tokens, one with others; the way out is named."""
    tokenizer = tiny.tokenizer()
    plain, wide = Model(tiny.model(1), tokenizer), Model(padded(tiny.model(1), 32), tokenizer)
    for objective in (gkd(), ReverseKl()):
        objective.require(plain, wide)
        objective.require(plain, None)
        with pytest.raises(UsageError, match="room for 32 tokens and the teacher for 22, of which 22") as caught:
            objective.require(wide, plain)
        assert "{kind: soft_label, divergence: reverse_kl, alpha: 1}" in str(caught.value)
    more = copy.deepcopy(tokenizer)
    more.add_tokens(["hedgehog"])
    with pytest.raises(UsageError, match="have different tokenizers"):
        gkd().require(Model(plain.model, more), plain)
    with pytest.raises(UsageError, match="of which 23 are tokens"):
        gkd().require(Model(plain.model, more), Model(plain.model, more))


def test_settings_reach_the_trainer_that_knows_them(tmp_path: Path) -> None:
    """TRL's own go through; those of sft alone, and misspelt ones, are refused before anything is loaded."""
    made = trainer(gkd(config={"top_p": 0.5}, beta=0.25, temperature=0.5), tmp_path, rows(*ANSWERS))
    assert (made.beta, made.top_p, made.temperature, made.max_completion_length) == (0.25, 0.5, 0.5, 8)
    assert ReverseKl().arguments(8, tmp_path, 0).beta == 1
    assert gkd(config={"top_p": 0.5, "max_steps": 2}).draft(whole=False).arguments(8, tmp_path, 0).max_steps == 2
    with pytest.raises(UsageError, match="has no top_q"):
        gkd(config={"top_q": 0.5}).draft(whole=True)
    with pytest.raises(UsageError, match="objective sft has eos_token: teach the student with that first"):
        gkd(config={"eos_token": "</s>"}).draft(whole=True)


def test_the_order_can_be_that_of_the_rows(tmp_path: Path) -> None:
    """`sequential` keeps it, `random` does not."""
    seen = {}
    for strategy in ("sequential", "random"):
        made = trainer(gkd(train_sampling_strategy=strategy, per_device_train_batch_size=1), tmp_path, rows(*ANSWERS))
        seen[strategy] = [row["id"] for batch in made.get_train_dataloader() for row in batch]
    assert seen["sequential"] == [f"r{n}" for n in range(5)]
    assert seen["random"] != seen["sequential"] and sorted(seen["random"]) == seen["sequential"]


def test_strangers_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the Jensen-Shannon divergence is at its bound there is no gradient: one warning; no other case has one."""
    import torch

    said: list[str] = []
    monkeypatch.setattr("stages.trainers.on_policy.console.warn", said.append)
    for beta, norm, warnings in ((0.5, 4.0, 0), (0.0, -20.0, 0), (1.0, -20.0, 0), (0.5, -20.0, 1), (0.1, -20.0, 1)):
        student, teacher = sharp(1, seed=1), sharp(3, seed=1)
        with torch.no_grad():
            teacher.model.norm.weight.mul_(20)
            student.model.norm.weight.mul_(norm)  # below zero it likes least what the teacher likes best
        made = trainer(gkd(beta=beta), tmp_path, rows(*ANSWERS), teacher=teacher, student=student)
        for _ in range(2):
            made.training_step(made.model, list(made.train_dataset))
        assert len(said) == warnings, beta
        said.clear()
