"""Preference objectives on tiny models: the loss, the reference, the look before it, the stage as a whole."""

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.engines import Completion
from pipeline.engines.replay import Replay
from pipeline.errors import UsageError
from pipeline.job import Job
from stages import flow, preflight, train_check
from stages.objectives import pair
from stages.objectives.base import Model, Teaching
from stages.objectives.dpkd import Dpkd
from stages.objectives.dpo import Dpo
from stages.objectives.preference import Loss, Preference
from stages.objectives.pupil import Pupil
from stages.preflight import Preflight
from stages.student import blank
from tests.helpers import opens_scripted, record, write_plan
from tests.stages import tiny
from tests.stages.conftest import Workshop

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # torch and TRL

ANSWERS = [
    "the fox ran home .",
    "a bear found the moon and a boat and ran .",
    "home ?",
    "the boat ran and the bear ran .",
]
WORSE = ["moon moon", "tell me", "a a a a a a a .", "about"]
PLAIN: dict[str, Any] = {
    "max_length": 64, "per_device_train_batch_size": 4, "learning_rate": 0.1, "lr_scheduler_type": "constant",
    "warmup_ratio": 0, "num_train_epochs": 1, "beta": 0.5,
    "config": {"optim": "sgd", "max_grad_norm": 0, "save_strategy": "no"},
}  # fmt: skip
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]}
GOALS = [Dpo, Dpkd]


def rows(n: int = 8) -> Any:
    """Pairs of different lengths."""
    from datasets import Dataset

    talks = [record(ANSWERS[i % 4], prompt="tell me about the " + "fox " * (i % 3), id=f"r{i}") for i in range(n)]
    return Dataset.from_list([pair.row(talk, WORSE[i % 4]) for i, talk in enumerate(talks)])


def teacher(sure: float = 1, vocabulary: int | None = None) -> Any:
    """A wider and deeper model than the student's; a `sure` one has far from even odds."""
    import torch

    made = tiny.model(4, seed=9, hidden_size=48)
    with torch.no_grad():
        made.get_input_embeddings().weight.mul_(sure)
    if vocabulary:
        made.resize_token_embeddings(vocabulary)
    return made


def trainer(goal: Preference, folder: Path, *, by: Any = None, data: Any = None, student: Any = None) -> Any:
    """A trainer of a student of two layers."""
    teaching = Teaching(by or teacher()) if goal.learns_from == "teacher" else Teaching()
    return goal.trainer(student or tiny.model(2), tiny.tokenizer(), data or rows(), folder, 1, teaching)


def weights(model: Any) -> Any:
    """All parameters in one vector."""
    import torch

    return torch.cat([p.detach().flatten() for p in model.parameters()])


def learned(goal: Preference, folder: Path, **more: Any) -> Any:
    """The parameters after training."""
    made = trainer(goal, folder, **more)
    made.train()
    return weights(made.model)


def log_probability(model: Any, prompt: list[int], answer: list[int]) -> Any:
    """Of an answer after its prompt, token by token, from the model's plain logits."""
    import torch

    logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return torch.stack([logits[len(prompt) + n - 1, token] for n, token in enumerate(answer)])


@pytest.mark.parametrize("lora", [None, LORA])
def test_dpo_starts_at_the_student_itself(tmp_path: Path, lora: Any) -> None:
    """Nothing is preferred yet: the loss is ln 2, with adapters and without."""
    made = trainer(Dpo.model_validate(PLAIN | {"lora": lora}), tmp_path)
    made.train()
    first = made.state.log_history[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/chosen"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("vocabulary", [None, 64])
@pytest.mark.parametrize(
    "loss", [{}, {"loss_type": "sigmoid_norm"}, {"loss_type": ["sigmoid_norm", "sft"], "loss_weights": [2, 0.5]}]
)
def test_the_gradient_of_dpkd_is_the_papers(tmp_path: Path, loss: dict[str, Any], vocabulary: int | None) -> None:
    """Computed from plain logits: with lengths divided out, with cross-entropy added, by a padded teacher."""
    import torch
    from torch.nn.functional import logsigmoid

    tutor, apprentice, words = teacher(5, vocabulary), tiny.model(2), tiny.tokenizer()
    by_hand = torch.zeros(())
    nll, count = torch.zeros(()), 0
    for row in rows(4):
        ids = words.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        scores = []
        for column in ("chosen", "rejected"):
            answer = words(row[column][0]["content"] + " </s>", add_special_tokens=False)["input_ids"]
            ours, theirs = log_probability(apprentice, ids, answer), log_probability(tutor, ids, answer).detach()
            scores.append((ours - theirs).mean() if loss else (ours - theirs).sum())
            if column == "chosen":
                nll, count = nll - ours.sum(), count + len(answer)
        by_hand = by_hand - logsigmoid(0.5 * (scores[0] - scores[1])) / 4
    if "loss_weights" in loss:
        by_hand = 2 * by_hand + 0.5 * nll / count
    by_hand.backward()
    expected = torch.cat([p.grad.flatten() for p in apprentice.parameters()])
    made = trainer(Dpkd.model_validate(PLAIN | loss), tmp_path, by=tutor, data=rows(4))
    (batch,) = made.get_train_dataloader()
    value = made.compute_loss(made.model, batch)
    value.backward()
    found = torch.cat([p.grad.flatten() for p in made.model.parameters()])
    assert value.item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("goal", GOALS)
def test_a_step_does_not_depend_on_how_its_rows_are_batched(goal: type[Preference], tmp_path: Path) -> None:
    """4 x 1, 2 x 2 and 1 x 4 pairs to a step are the same step."""
    found = []
    for size, times in ((4, 1), (2, 2), (1, 4)):
        split = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        found.append(learned(goal.model_validate(PLAIN | split), tmp_path / str(size)))
    assert (found[0] - weights(tiny.model(2))).abs().max() > 1e-3
    assert (found[0] - found[1]).abs().max() < 1e-6
    assert (found[0] - found[2]).abs().max() < 1e-6


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("goal", GOALS)
def test_a_planted_preference_is_learned(goal: type[Preference], lora: Any, tmp_path: Path) -> None:
    """The chosen answers gain on the rejected ones, the teacher stays as it is, and the figures say so."""
    import torch

    steps = PLAIN | {"num_train_epochs": 6, "learning_rate": 1e-2, "lora": lora}
    objective = goal.model_validate(steps | {"config": {"save_strategy": "no"}})
    tutor = teacher()
    before = weights(tutor).clone()
    made = trainer(objective, tmp_path, by=tutor)
    base = {n: p.clone() for n, p in made.model.named_parameters() if not p.requires_grad}
    made.train()
    history = [log for log in made.state.log_history if "loss" in log]
    assert history[-1]["rewards/margins"] > history[0]["rewards/margins"] + 0.5
    assert history[-1]["loss"] < history[0]["loss"] * 0.9
    figures = objective.figures(made)
    assert figures["reward_margin"] == pytest.approx(history[-1]["rewards/margins"], abs=1e-4)
    assert figures["reward_accuracy"] == history[-1]["rewards/accuracies"]
    assert torch.equal(weights(tutor), before)
    assert bool(base) == (lora is not None)
    assert all(torch.equal(p, base[n]) for n, p in made.model.named_parameters() if n in base)


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("goal", GOALS)
def test_a_reference_that_is_asked_beforehand_teaches_the_same(
    goal: type[Preference], lora: Any, tmp_path: Path
) -> None:
    """And a teacher's memory is given back."""
    before = PLAIN | {"lora": lora, "config": PLAIN["config"] | {"precompute_ref_log_probs": True}}
    tutor = teacher()
    made = trainer(goal.model_validate(before), tmp_path / "before", by=tutor)
    assert tutor.device.type == ("meta" if goal is Dpkd else "cpu")
    made.train()
    meanwhile = learned(goal.model_validate(PLAIN | {"lora": lora}), tmp_path / "meanwhile")
    assert (weights(made.model) - meanwhile).abs().max() < 1e-6
    assert lora or (meanwhile - weights(tiny.model(2))).abs().max() > 1e-3


@pytest.mark.parametrize("goal", GOALS)
def test_a_resumed_training_is_the_uninterrupted_one(goal: type[Preference], tmp_path: Path) -> None:
    """The reference is what the student was before it began, not what the checkpoint holds."""
    objective = goal.model_validate(
        PLAIN | {"num_train_epochs": 2, "config": {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 9}}
    )
    whole = learned(objective, tmp_path / "whole")
    again = trainer(objective, tmp_path / "again")
    again.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-2"))
    assert again.state.global_step == 4
    assert (weights(again.model) - whole).abs().max() < 1e-6


@pytest.mark.parametrize("loss", get_args(Loss))
def test_trl_knows_every_loss(loss: str, tmp_path: Path) -> None:
    """It refuses an unknown name in the first step only."""
    config = {"save_strategy": "no", "max_steps": 1, "label_smoothing": 0.1}
    made = trainer(Dpo.model_validate(PLAIN | {"loss_type": loss, "config": config}), tmp_path, data=rows(4))
    (batch,) = made.get_train_dataloader()
    assert math.isfinite(made.compute_loss(made.model, batch).item())


class Desk:
    """A student without weights, and the examination of pairs for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.student = Model(*blank(str(tiny.folder(folder / "model"))))

    def look(self, *pairs: tuple[str, str, str], max_cut: float = 0.05, **dpo: Any) -> Preflight:
        """What is found in pairs of prompt, chosen and rejected answer: r0, r1 ..."""
        from datasets import Dataset

        made = [pair.row(record(good, prompt=ask, id=f"r{n}"), bad) for n, (ask, good, bad) in enumerate(pairs)]
        goal = Dpo.model_validate({"max_length": 64} | dpo)
        return preflight.examine(
            goal, self.student, Dataset.from_list(made), self.folder / "out", teacher=frozenset(), max_cut=max_cut
        )

    def refusal(self, *pairs: tuple[str, str, str], **more: Any) -> str:
        """The message that pairs are refused with."""
        with pytest.raises(UsageError) as caught:
            self.look(*pairs, **more).refuse()
        return str(caught.value)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """The tiny student."""
    return Desk(tmp_path)


def test_both_answers_of_a_pair_are_shown_and_counted(desk: Desk) -> None:
    """Rows are pairs; their tokens are those of both."""
    found = desk.look(("the fox ?", "a bear .", "moon"), ("the fox ?", "home", "boat"), num_train_epochs=2)
    found.refuse()
    assert (found.rows, found.tokens, found.trained, found.longest) == (2, 12 + 10 + 10 + 10, 4 + 2 + 2 + 2, 12)
    assert (found.steps, found.passes, found.cut, found.lost) == (2, 2, 0, 0)
    shown = [(e.id, e.of, [text for text, on in e.pieces if on]) for e in found.examples]
    assert shown[:2] == [("r0", "chosen", ["a bear . </s>"]), ("r0", "rejected", ["moon </s>"])]
    assert found.plain()["examples"][1]["of"] == "rejected"


@pytest.mark.filterwarnings("ignore:The `'keep_end'`:FutureWarning")
@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
def test_what_is_judged_is_what_is_fed(desk: Desk, mode: str) -> None:
    """Tokens, cut and lost pairs are those of the trainer that trains, made from the rows as they came."""
    talks = [("the fox ?", " ".join(["ran"] * n), " ".join(["a"] * (30 - n))) for n in range(1, 30)]
    talks += [("moon " * 40, "home .", "boat")]
    config = {"truncation_mode": mode}
    found = desk.look(*talks, max_cut=1, max_length=24, config=config)
    goal = Dpo(max_length=24, config=config, per_device_train_batch_size=1)
    made = goal.trainer(tiny.model(1), tiny.tokenizer(), found.data, desk.folder / "t", 1)
    batches = list(made.get_train_dataloader())
    assert found.tokens == sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert found.trained == sum(int(batch["completion_mask"].sum()) for batch in batches)
    assert found.rows - found.lost == len(batches) and found.lost == (mode == "keep_start")
    assert found.cut == sum(max(n, 30 - n) + 9 > 24 for n in range(1, 30)) + 1
    ids = ["prompt_ids", "chosen_ids", "rejected_ids"]
    raw = found.data.remove_columns(ids)
    again = goal.trainer(tiny.model(1), tiny.tokenizer(), raw, desk.folder / "u", 1).train_dataset
    assert [[row[name] for name in ids] for row in again] == [[row[name] for name in ids] for row in made.train_dataset]


def test_a_fault_of_the_rejected_answer_is_found(desk: Desk) -> None:
    """Each answer is looked at by itself; a fault of both is one of the row."""
    message = desk.refusal(("the fox ?", "a bear .", "moon </s> moon"), ("the fox ?", "a bear .", "home"))
    assert message.startswith("record r0: rejected: its text holds </s>")
    desk.student.tokenizer.chat_template = tiny.TEMPLATE.replace("+ '</s>'", "")
    message = desk.refusal(("the fox ?", "a bear .", "home"), ("the fox ?", "a bear .", "boat"))
    assert message.startswith("record r0: chosen: no end of turn is trained: what is learned ends with '.'")
    assert "(2 rows, this one first)" in message and "chat_template_path" in message
    strips = "{% if m['content'] == 'home' %}boat{% else %}{{ m['content'] }}{% endif %}"
    desk.student.tokenizer.chat_template = (
        "{% for m in messages %}{{ '<s>' + m['role'] + ' ' }}" + strips + "{{ '</s>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>assistant ' }}{% endif %}"
    )
    message = desk.refusal(("the fox ?", "a bear .", "home"))
    assert message.startswith("record r0: rejected: the chat template changes the answer: it begins with 'boat </s>'")


def test_the_ways_out_that_messages_name_lead_out(desk: Desk, tmp_path: Path) -> None:
    """Another template, and another end of turn, which TRL's DPOConfig has not."""
    desk.student.tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    ends = tmp_path / "ends.jinja"
    ends.write_text(tiny.TEMPLATE.replace("</s>", "<end>"))
    config = {"chat_template_path": str(ends)}
    message = desk.refusal(("the fox ?", "a bear .", "home"), config=config)
    assert "train.objective.config: {eos_token: '<end>'}" in message
    desk.look(("the fox ?", "a bear .", "home"), config=config | {"eos_token": "<end>"}).refuse()
    with pytest.raises(UsageError, match="'<no>' is no token of the student"):
        desk.look(("the fox ?", "a bear .", "home"), config={"eos_token": "<no>"})
    with pytest.raises(UsageError, match=r"chat_template_path: no\.jinja: No such file"):
        desk.look(("the fox ?", "a bear .", "home"), config={"chat_template_path": "no.jinja"})


def test_dpkd_needs_the_teachers_tokens_and_dpo_does_not(desk: Desk) -> None:
    """One compares what both make of the same tokens, the other never asks the teacher."""
    other = tiny.tokenizer()
    other.add_tokens(["lighthouse"])
    strange = Model(desk.student.model, other)
    with pytest.raises(UsageError, match="objective dpkd compares student and teacher token by token"):
        Dpkd().require(desk.student, strange)
    Dpkd().require(desk.student, Model(desk.student.model, tiny.tokenizer()))
    Dpo().require(desk.student, strange)


@pytest.fixture
def shop(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A plan that trains two layers of the tiny teacher on a file; the teacher itself is never asked."""
    monkeypatch.setattr(Replay, "open", opens_scripted(lambda request: pytest.fail("the teacher is asked")))
    write_plan(workshop.folder, train={"student": {"init": {"layers": [0, 3]}}, "objective": small("dpo")})
    tiny.folder(workshop.folder / "model")
    return workshop


def small(kind: str, **more: Any) -> dict[str, Any]:
    """An objective's settings for a training of seconds."""
    steps = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "max_length": 64, "learning_rate": 1e-3}
    return {"kind": kind} | steps | more


def fill(shop: Workshop, *rows: dict[str, Any]) -> str:
    """The file of examples."""
    file = shop.folder / "examples.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(file)


def test_a_file_of_pairs_makes_a_student(shop: Workshop) -> None:
    """Its reference is the student as it was cut, not the model it was cut from."""
    talks = [{"prompt": f"the fox ? {n}", "chosen": ANSWERS[n % 4], "rejected": WORSE[n % 4]} for n in range(8)]
    source = fill(shop, *talks, {"prompt": "the fox ?", "chosen": "home", "rejected": "home"})
    (version,) = shop.make("train", input=source)
    figures = version.manifest.figures
    assert figures["first_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert (figures["rows"], figures["steps"], figures["reward_accuracy"] >= 0) == (8, 2, True)
    (tally,) = version.manifest.ledger
    assert (tally.came, tally.kept, tally.dropped) == (9, 8, {"same_answer": 1})
    assert (version.path / "model/model.safetensors").is_file()


SAID = {"pairs": "student", "sampling": {"max_tokens": 8, "temperature": 1.0}}


def test_the_student_is_asked_once_and_its_own_answers_are_rejected(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is rejected is what the untrained student says; another training of it asks nobody."""
    talks = [{"prompt": f"the fox ? {n}", "completion": ANSWERS[n % 4]} for n in range(6)]
    source = fill(shop, *talks)
    write_plan(shop.folder, train={"student": {"init": {"layers": [0, 3]}}, "objective": small("dpkd", **SAID)})
    tiny.folder(shop.folder / "model")
    monkeypatch.setattr("stages.train.Train.write_rows", kept(shop.folder / "rows.jsonl"))
    (version,) = shop.make("train", input=source)
    assert version.manifest.usage["asked"] == 6
    assert version.manifest.figures["reward_margin"] is not None
    assert any("answers of the student end at sampling.max_tokens" in note for note in version.manifest.notes)
    rejected = [json.loads(line)["rejected"][0]["content"] for line in (shop.folder / "rows.jsonl").open()]
    assert len(set(rejected)) > 1 and all(set(text.split()) <= set(tiny.WORDS) for text in rejected)
    opened = Pupil.open
    monkeypatch.setattr(Pupil, "open", lambda *_: pytest.fail("the student is asked again"))
    (other,) = shop.make("train", input=source, overrides=("train.objective.learning_rate=0.002",))
    assert other.manifest.usage["remembered"] == 6 and other.name != version.name
    monkeypatch.setattr(Pupil, "open", opened)
    layers = "train.student.init.layers=[0]"
    (third,) = shop.make("train", input=source, overrides=(layers, "train.objective.kind=dpo"))
    assert third.manifest.usage["asked"] == 6
    assert third.manifest.figures["first_loss"] == pytest.approx(math.log(2), abs=1e-4)


def kept(file: Path) -> Any:
    """A `write_rows` that leaves a copy of the rows."""
    from stages.train import Train

    write = Train.write_rows

    def write_rows(self: Train, given: Any, rows: Path) -> Any:
        tally = write(self, given, rows)
        file.write_bytes(rows.read_bytes())
        return tally

    return write_rows


def test_a_check_asks_nobody_and_loads_no_weights(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the student would say is not known: a note says what stands for it."""
    source = fill(shop, *({"prompt": f"the fox ? {n}", "completion": ANSWERS[n % 4]} for n in range(6)))
    for place in ("stages.training.load", "stages.objectives.pupil.load"):
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail("weights are loaded"))
    monkeypatch.setattr(Job, "ask", lambda *_: pytest.fail("somebody is asked"))
    plan = shop.plan("train.objective.kind=dpkd")
    found = train_check.check(plan, shop.run, flow.Options(input=source)).preflight
    assert [(f.fault.reason, f.rows) for f in found.found if not f.fault.refused] == [("student_not_asked", 6)]
    assert (found.rows, found.steps) == (6, 2)
    found.refuse()
    assert not shop.run.path.exists()


def test_pairs_of_the_judge_are_trained_on(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """From generate to train: several answers to a prompt, a judge, its best and its worst."""
    replies = iter(ANSWERS * 8)

    def script(request: Any) -> Completion:
        if request.choices:
            return Completion(text="5" if "boat" in request.messages[-1].content else "3", completion_tokens=1)
        return Completion(text=next(replies), finish_reason="stop", completion_tokens=5)

    monkeypatch.setattr(Replay, "open", opens_scripted(script))
    source = {"kind": "grid", "axes": {"prompt": ["the fox ?", "the bear ?", "a moon ?"]}}
    rules = [{"kind": "judge", "prompt": shop.rubric("good"), "min_score": 2}]
    write_plan(
        shop.folder, generate={"source": source, "task": {"kind": "respond"}, "samples": 4, "heldout": 0.0},
        filter={"rules": rules, "pairs": {}},
        train={"student": {"init": {"layers": [0, 3]}}, "objective": small("dpo")},
    )  # fmt: skip
    tiny.folder(shop.folder / "model")
    *_, version = shop.make("generate", "filter", "train")
    (tally,) = version.manifest.ledger
    assert (tally.came, tally.kept, tally.dropped) == (12, 3, {"no_pair": 9})
    trained = [json.loads(line) for line in (version.path / "rows.jsonl").open()]
    assert all("boat" in row["chosen"][0]["content"] and "boat" not in row["rejected"][0]["content"] for row in trained)
