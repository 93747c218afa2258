"""The look before training: what TRL's trainer will feed is judged, and each thing that spoils a student is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.openai import OpenAI
from pipeline.engines.vllm import Vllm
from pipeline.errors import UsageError
from pipeline.models import models_home
from pipeline.records import Message
from stages import flow, preflight, train_check
from stages.objectives.sft import Sft
from stages.preflight import Preflight
from stages.preflight_rows import teacher_tokens
from stages.student import blank
from tests.helpers import record, stub_model, write_plan
from tests.stages import tiny
from tests.stages.conftest import Workshop

pytestmark = pytest.mark.slow  # torch and TRL

ROOT = Path(__file__).resolve().parents[2]
ANSWER = "the fox found a boat and ran home ."
DEMO = models_home() / "smollm2-135m-instruct"
TURN = "{{ '<s>' + m['role'] + ' ' + m['content'] + '</s>' }}"
ASK = "{% if add_generation_prompt %}{{ '<s>assistant ' }}{% endif %}"


def turns(*contents: str) -> list[Message]:
    """A conversation, the user first."""
    return [Message(role="assistant" if n % 2 else "user", content=text) for n, text in enumerate(contents)]


def rows(*talks: list[Message]) -> Any:
    """Conversations as the train stage gives them to a trainer; records are called r0, r1 ..."""
    from datasets import Dataset

    made = [record(messages=talk, id=f"r{n}") for n, talk in enumerate(talks)]
    return Dataset.from_list([Sft().row(r) | {"id": r.id} for r in made])


TALK = turns("tell me about the fox ?", ANSWER)


class Desk:
    """A student without weights, and the examination of rows for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.student = blank(str(tiny.folder(folder / "model")))

    @property
    def tokenizer(self) -> Any:
        """The student's own."""
        return self.student[1]

    def look(self, data: Any, *, max_cut: float = 0.05, teacher: frozenset[str] = frozenset(), **sft: Any) -> Preflight:
        """What is found in `data`."""
        objective = Sft.model_validate({"max_length": 64} | sft)
        return preflight.examine(objective, self.student, data, self.folder / "out", teacher=teacher, max_cut=max_cut)

    def refusal(self, data: Any, **more: Any) -> str:
        """The message that `data` is refused with."""
        with pytest.raises(UsageError) as caught:
            self.look(data, **more).refuse()
        return str(caught.value)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """The tiny student."""
    return Desk(tmp_path)


def test_good_rows_pass(desk: Desk) -> None:
    """Figures count what is fed; examples show which of it is trained, the end of the turn with it."""
    found = desk.look(rows(TALK, turns("the fox ?", "a bear .")), num_train_epochs=2)
    found.refuse()
    assert (found.found, found.cut, found.lost) == ([], 0, 0)
    assert (found.rows, found.tokens, found.trained) == (2, 21 + 12, 10 + 4)
    assert (found.longest, found.longest_id, found.steps, found.passes) == (21, "r0", 2, 2)
    assert found.examples[1].pieces == [("<s> user the fox ? </s> <s> assistant", False), ("a bear . </s>", True)]


@pytest.mark.parametrize("config", [{}, {"completion_only_loss": False}, {"packing": True}])
def test_what_is_judged_is_what_is_fed(desk: Desk, config: dict[str, Any]) -> None:
    """Tokens, trained ones and lost rows are those of the trainer that trains, made from the rows as they came."""
    data = rows(*[turns("the fox ?", " ".join(["ran"] * n)) for n in range(1, 30)], turns("moon " * 40, "home ."))
    objective: dict[str, Any] = {"max_length": 24, "config": config}
    found = desk.look(data, max_cut=1, **objective)
    trainer = Sft.model_validate(objective).trainer(tiny.model(1), tiny.tokenizer(), data, desk.folder / "t", 1)
    fed = list(trainer.train_dataset)
    again = Sft.model_validate(objective).trainer(tiny.model(1), tiny.tokenizer(), found.data, desk.folder / "a", 1)
    assert [r["input_ids"] for r in again.train_dataset] == [r["input_ids"] for r in fed]
    assert [r["labels"] for r in again.train_dataset] == [r["labels"] for r in fed]
    assert found.cut > 1 and found.steps == preflight.count_steps(trainer)[0]
    assert found.trained == sum(label != -100 for row in fed for label in row["labels"])
    if not config.get("packing"):  # a packed row that teaches nothing still stands beside others
        assert (found.rows - found.lost, found.tokens) == (len(fed), sum(len(row["input_ids"]) for row in fed))


def test_an_answer_without_an_end_is_refused(desk: Desk) -> None:
    """A student that never sees its turn end never stops."""
    desk.tokenizer.chat_template = (
        "{% for m in messages %}{{ '<s>' + m['role'] + ' ' + m['content'] }}{% endfor %}" + ASK
    )
    message = desk.refusal(rows(TALK, TALK))
    assert message.startswith("record r0: no end of turn is trained: what is learned ends with '.'")
    assert "the student stops at </s> (2 rows, this one first)" in message
    assert "hint: use another chat template: train.objective.config: {chat_template_path:" in message


def test_an_end_at_which_the_student_does_not_stop_is_refused(desk: Desk) -> None:
    """A template's own end of turn counts once the student is told to stop there: the hint does it."""
    desk.tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    turn = TURN.replace("</s>", "<end>")
    desk.tokenizer.chat_template = f"{{% for m in messages %}}{turn}{{% endfor %}}{ASK}"
    message = desk.refusal(rows(TALK))
    assert "ends with '<end>', the student stops at </s>" in message
    assert "tell the student to stop there: train.objective.config: {eos_token: '<end>'}" in message
    desk.look(rows(TALK), config={"eos_token": "<end>"}).refuse()


def test_a_mask_that_leaves_the_end_out_is_refused(desk: Desk) -> None:
    """With assistant_only_loss the template's own marks decide, turn by turn."""
    inside = "{{ '<s>' + m['role'] + ' ' }}{% generation %}{{ m['content'] }}{% endgeneration %}{{ '</s>' }}"
    template = "{% for m in messages %}{% if m['role'] == 'user' %}" + TURN + "{% else %}" + inside
    desk.tokenizer.chat_template = f"{template}{{% endif %}}{{% endfor %}}{ASK}"
    config = {"assistant_only_loss": True, "completion_only_loss": False}
    assert "no end of turn is trained" in desk.refusal(rows(TALK), config=config)
    whole = desk.tokenizer.chat_template.replace("{% endgeneration %}{{ '</s>' }}", "{{ '</s>' }}{% endgeneration %}")
    desk.tokenizer.chat_template = whole
    desk.look(rows(TALK), config=config).refuse()


THOUGHTS = turns("the fox ?", "tell me / a bear .", "the moon ?", "about / the boat .")
FORGETS = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ' ' }}{% if loop.last %}{{ m['content'] }}"
    "{% else %}{{ m['content'].split('/')[-1] }}{% endif %}{{ '</s>' }}{% endfor %}" + ASK
)


def test_a_template_that_strips_earlier_turns_is_refused_where_they_are_trained(desk: Desk) -> None:
    """An answer that is trained without its thinking is another answer; one that is only read is worth a note."""
    desk.tokenizer.chat_template = FORGETS
    message = desk.refusal(rows(TALK, THOUGHTS), config={"completion_only_loss": False})
    assert message.startswith("record r1: the chat template is not prefix-preserving: an earlier answer ended 'tell me")
    found = desk.look(rows(TALK, THOUGHTS))
    found.refuse()
    ((fault, count, id_),) = found.found
    assert (fault.reason, fault.refused, count, id_) == ("turn_shortened", False, 1, "r1")


def test_a_template_that_strips_the_answer_itself_is_refused(desk: Desk) -> None:
    """Thinking that a template drops from the last answer too would be lost without a word."""
    desk.tokenizer.chat_template = FORGETS.replace("loop.last", "false")
    message = desk.refusal(rows(TALK, THOUGHTS))
    assert message.startswith("record r1: the chat template changes the answer: it begins with 'the boat . </s>'")


def test_a_prompt_that_changes_once_it_is_answered_is_refused(desk: Desk) -> None:
    """What the template adds to ask for an answer must still be there before the answer."""
    desk.tokenizer.chat_template = tiny.TEMPLATE.replace("<s>assistant ", "<s>assistant moon ")
    message = desk.refusal(rows(TALK))
    assert message.startswith("record r0: the chat template is not prefix-preserving: 'moon' ends the prompt, and is")


def test_rows_of_which_nothing_is_trained_are_refused(desk: Desk) -> None:
    """A template that leaves answers out gives a batch that is masked all over."""
    desk.tokenizer.chat_template = (
        "{% for m in messages if m['role'] == 'user' %}" + TURN + "{% endfor %}{{ '<s>assistant ' }}"
    )
    assert "record r0: every token is masked" in desk.refusal(rows(TALK))


def test_too_many_cut_rows_are_refused(desk: Desk) -> None:
    """The message has the longest row, and the hint a length that is enough, which passes."""
    data = rows(TALK, *[turns("the fox ?", "ran " * n + "home .") for n in range(4, 13)])
    message = desk.refusal(data, max_length=17, max_cut=0.3)
    assert "max_length 17 cuts 7 of 10 rows (70.0%), and max_cut is 30.0%: record r9 has 23 tokens" in message
    enough = int(re.search(r"max_length: (\d+) keeps", message)[1])  # type: ignore[index]
    assert desk.look(data, max_length=enough, max_cut=0.3).cut == 2
    desk.look(data, max_length=17, max_cut=0.7).refuse()


def test_a_length_that_leaves_no_answer_is_refused(desk: Desk) -> None:
    """Even where any share of rows may be cut."""
    message = desk.refusal(rows(TALK, TALK), max_length=8, max_cut=1.0)
    assert "max_length 8 leaves no trained token in any row" in message
    assert "hint: train.objective.max_length: 21" in message


def test_control_tokens_in_the_text_are_refused(desk: Desk) -> None:
    """The student's own would be read as such, the teacher's be learned as text; both are named, with the row."""
    own, teacher = turns("the </s> fox ?", "a bear ."), turns("the fox ?", "a bear . <|im_end|>")
    message = desk.refusal(rows(TALK, own, teacher), teacher=frozenset({"<|im_end|>", "</s>"}))
    assert message.startswith("2 reasons not to train:\n- record r1: its text holds </s>: the student reads it")
    assert "\n- record r2: its text holds <|im_end|>: a control token of the teacher" in message
    assert "filter.rules: [{kind: words, banned: ['<|im_end|>']}]" in message
    desk.look(rows(TALK, teacher)).refuse()


def test_a_row_that_the_template_refuses_is_named(desk: Desk) -> None:
    """Templates raise for roles they do not know; the message has the record."""
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    desk.tokenizer.chat_template = refuse + tiny.TEMPLATE
    system = [Message(role="system", content="the moon"), *TALK]
    assert desk.refusal(rows(TALK, system)).startswith("record r1: the student's chat template refuses it: no system")


@pytest.mark.skipif(not (DEMO / "config.json").is_file(), reason="`make models` has not been run")
def test_the_demo_template_passes_and_trls_is_proposed_where_it_helps(desk: Desk) -> None:
    """SmolLM2's template is sound; with Qwen3's, which drops earlier thinking, TRL's training template is the hint."""
    from trl.chat_template_utils import qwen3_chat_template

    desk.student = blank(str(DEMO))
    talk = turns("A fox?", "<think>\nHm.\n</think>\n\nRed.", "And a bear?", "<think>\nSo.\n</think>\n\nBrown.")
    found = desk.look(rows(talk), max_length=256)
    assert found.found == []
    assert found.examples[0].pieces[-1] == ("<think>\nSo.\n</think>\n\nBrown.<|im_end|>\n", True)
    desk.tokenizer.chat_template = qwen3_chat_template
    message = desk.refusal(rows(talk), max_length=256, config={"completion_only_loss": False})
    assert (
        "hint: use TRL's training template for this model: train.objective.config: {assistant_only_loss: true}"
        in message
    )
    both = {"assistant_only_loss": True, "completion_only_loss": False}
    desk.look(rows(talk), max_length=256, config=both).refuse()


@pytest.mark.skipif(not (DEMO / "config.json").is_file(), reason="`make models` has not been run")
def test_an_answer_that_melts_into_the_prompt_is_worth_a_note(desk: Desk) -> None:
    """A leading line break makes one token with the prompt's last: no fault of the template."""
    desk.student = blank(str(DEMO))
    found = desk.look(rows(turns("A fox?", "\n\nRed.")), max_length=256)
    found.refuse()
    assert [(f.fault.reason, f.fault.refused) for f in found.found] == [("prompt_merged", False)]


def test_the_teachers_tokens_are_known_where_its_tokenizer_is(desk: Desk, tmp_path: Path) -> None:
    """A teacher on a server, or one whose files are no model, leaves a note behind."""
    assert teacher_tokens(Vllm(model=str(tmp_path / "model"))) == frozenset({"<s>", "</s>", "<pad>", "<unk>"})
    assert teacher_tokens(Vllm(model=str(stub_model(tmp_path / "stub")))) is None
    assert teacher_tokens(OpenAI(model="big", base_url="http://localhost/v1")) is None
    objective = Sft(max_length=64)
    found = preflight.examine(objective, desk.student, rows(TALK), tmp_path / "out", teacher=None, max_cut=0.05)
    assert found.found == [preflight.UNKNOWN]
    found.refuse()


@pytest.fixture
def shop(workshop: Workshop) -> Workshop:
    """A plan that trains two layers of the tiny teacher on eight rows of a file."""
    tiny.folder(workshop.folder / "model")
    objective = {"kind": "sft", "num_train_epochs": 1, "per_device_train_batch_size": 4, "max_length": 64}
    write_plan(workshop.folder, train={"student": {"init": {"layers": [0, 3]}}, "objective": objective})
    tiny.folder(workshop.folder / "model")
    fill(workshop, [ANSWER] * 8)
    return workshop


def fill(shop: Workshop, answers: list[str]) -> None:
    """The file of examples."""
    lines = [json.dumps({"prompt": f"the fox ? {n}", "completion": answer}) for n, answer in enumerate(answers)]
    (shop.folder / "examples.jsonl").write_text("\n".join(lines))


def test_a_run_looks_first(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused loads no weights and leaves no version behind; a good run has the figures in its manifest."""
    source = str(shop.folder / "examples.jsonl")
    fill(shop, [ANSWER, f"{ANSWER} <s>"])
    with monkeypatch.context() as patch:
        patch.setattr("stages.training.load", lambda **_: pytest.fail("weights are loaded"))
        with pytest.raises(UsageError, match="its text holds <s>"):
            shop.make("train", input=source)
    assert shop.run.folders("train") == []
    fill(shop, [ANSWER] * 7 + [" ".join(["moon"] * 80)])
    (version,) = shop.make("train", input=source, overrides=("train.max_cut=0.2",))
    figures = version.manifest.figures
    assert figures["preflight"]["rows"] == figures["rows"] == 8
    assert (figures["preflight"]["cut"], figures["preflight"]["longest"], figures["steps"]) == (1, 90, 2)
    assert figures["tokens_per_second"] > 0


def test_rows_that_lose_their_answer_are_in_the_ledger(shop: Workshop) -> None:
    """TRL leaves them out without a word; here they are counted."""
    row = {"prompt": "the moon " * 40, "completion": ANSWER}
    with (shop.folder / "examples.jsonl").open("a") as file:
        file.write("\n" + json.dumps(row))
    source = str(shop.folder / "examples.jsonl")
    (version,) = shop.make("train", input=source, overrides=("train.max_cut=0.2",))
    (tally,) = version.manifest.ledger
    assert (tally.came, tally.kept, tally.dropped) == (9, 8, {"answer_cut_off": 1})
    assert version.manifest.figures["rows"] == 8


def test_a_check_writes_nothing_and_goes_by_earlier_versions(shop: Workshop) -> None:
    """The time is unknown until a version of the same student has a speed; then it is tokens over that speed."""
    options = flow.Options(input=str(shop.folder / "examples.jsonl"))
    found = train_check.check(shop.plan(), shop.run, options)
    assert found.seconds is None and found.preflight.steps == 2
    assert not shop.run.path.exists()
    (version,) = shop.make("train", input=options.input)
    longer = train_check.check(shop.plan("train.objective.num_train_epochs=3"), shop.run, options)
    work, speed = longer.preflight.tokens * 3, version.manifest.figures["tokens_per_second"]
    assert longer.seconds == pytest.approx(work / speed)
    other = shop.plan("train.student.init.layers=[0]")
    assert train_check.check(other, shop.run, options).seconds is None


def test_the_command(shop: Workshop) -> None:
    """--check exits with 2 for rows that must not be trained on, says why on stderr, and gives its figures as JSON."""
    words = ["train", "plan.yaml", "--input", "examples.jsonl", "--check", "--json", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words, "--set", "train.objective.max_length=16"],
        cwd=shop.folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "max_length 16 cuts 8 of 8 rows (100.0%)" in done.stderr
    found = json.loads(done.stdout)
    assert (found["rows"], found["cut"], found["longest"], found["seconds"]) == (8, 8, 19, None)
    assert [(f["reason"], f["refused"]) for f in found["found"]] == [("too_many_cut", True)]
    assert found["examples"][0]["text"][1] == {"text": "the fox found a boat and ran", "trained": True}
    assert not (shop.folder / "data").exists()
