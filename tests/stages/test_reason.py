"""Reasoning apart from the answer, checked against a gold answer."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from filters.final import Check, final_of
from pipeline.engines import Completion, Request
from pipeline.errors import UsageError
from pipeline.records import Seed
from stages.tasks.base import Example
from stages.tasks.reason import Reason
from tests.stages.scripted import played

GSM8K = Path(__file__).resolve().parents[3] / "shared/data/gsm8k/train.jsonl"
QUESTION = "What is 6 times 7?"


def thought(reasoning: str, final: str) -> Completion:
    """What a prompted teacher says."""
    text = orjson.dumps({"reasoning": reasoning, "answer": final}).decode()
    return Completion(text=text, finish_reason="stop", completion_tokens=9)


def one(task: Reason, folder: Path, said: Completion, **fields: Any) -> Example:
    """What becomes of one seed."""
    (unit,) = played(task, [Seed("s", {"prompt": QUESTION} | fields, "seeds.jsonl:1")], folder, lambda request: said)
    (example,) = unit.examples
    return example


def test_the_record_keeps_the_seeds_own_turn(tmp_path: Path) -> None:
    """The prompt around the question is for the teacher; reasoning and answer come apart."""
    asked: list[Request] = []

    def script(request: Request) -> Completion:
        asked.append(request)
        return thought("6 times 7 is 42.", "42")

    (unit,) = played(Reason(), [Seed("s", {"prompt": QUESTION}, "")], tmp_path, script)
    (example,) = unit.examples
    assert [m.content for m in example.messages] == [QUESTION, "42"]
    assert example.reasoning == "6 times 7 is 42."
    assert QUESTION in asked[0].messages[-1].content != QUESTION
    schema = asked[0].json_schema or {}
    assert schema["required"] == ["reasoning", "answer"] and schema["additionalProperties"] is False


def test_a_conversation_keeps_its_turns_and_one_system_turn(tmp_path: Path) -> None:
    """An own prompt's system turn joins the seed's, for chat templates refuse two; the record has the seed's only."""
    file = tmp_path / "own.md"
    file.write_text("---\nabout: x\nneeds: [question]\n---\n>>> system\nThink.\n>>> user\nQ: {{ question }}\n")
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", QUESTION)]
    messages = [{"role": role, "content": content} for role, content in turns]
    asked: list[Request] = []

    def script(request: Request) -> Completion:
        asked.append(request)
        return thought("so", "42")

    task = Reason(field="messages", prompt=file)
    (unit,) = played(task, [Seed("s", {"messages": messages}, "")], tmp_path, script)
    assert [m.content for m in asked[0].messages] == ["Think.\n\nBe kind.", "Hi", "Hello", f"Q: {QUESTION}"]
    assert [m.content for m in unit.examples[0].messages] == ["Be kind.", "Hi", "Hello", QUESTION, "42"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (thought("", "42"), "no_reasoning"),
        (thought(" ... ", "42"), "no_reasoning"),
        (thought("Every step that leads to the answer", "42"), "no_reasoning"),
        (thought("Forty-two", " forty-two\n"), "no_reasoning"),
        (thought("because", " "), "empty_answer"),
        (thought("half is \frac{1}{2}", "42"), "lost_backslash"),
        (thought("6 \times 7", "42"), "lost_backslash"),
        (Completion(text="It is 42.", finish_reason="stop"), "not_json"),
        (Completion(text='{"answer": "42"}', finish_reason="stop"), "wrong_shape"),
    ],
)
def test_what_cannot_be_used_is_dropped_with_a_reason(said: Completion, reason: str, tmp_path: Path) -> None:
    """Both parts have to be there and whole."""
    assert one(Reason(), tmp_path, said).reason == reason


def test_lines_and_tabs_are_no_lost_backslash(tmp_path: Path) -> None:
    """Code in a reasoning may be indented with tabs."""
    assert one(Reason(), tmp_path, thought("for x in y:\n\tprint(x)", "42")).reason == ""


def test_a_native_models_thinking_is_the_reasoning(tmp_path: Path) -> None:
    """It is asked with the seed's turns alone; without thinking the row is dropped."""
    task = Reason(thinking="native", answer_field="gold")
    said = Completion(text="<think>6 x 7</think>The answer is 42.", finish_reason="stop")
    example = one(task, tmp_path, said, gold="#### 42")
    assert (example.reasoning, example.reason, example.messages[-1].content) == ("6 x 7", "", "The answer is 42.")
    assert one(task, tmp_path, Completion(text="42", finish_reason="stop"), gold="42").reason == "no_reasoning"


def test_a_wrong_answer_is_dropped_and_shown(tmp_path: Path) -> None:
    """The row keeps what was said and names both answers."""
    example = one(Reason(answer_field="gold"), tmp_path, thought("6 x 7 = 41", "$41"), gold="6 x 7 = 42\n#### 42")
    assert (example.reason, example.detail) == ("wrong_answer", "it said 41, the gold answer is 42")
    assert example.messages[-1].content == "$41"


@pytest.mark.parametrize(
    ("check", "said", "gold"),
    [
        ("number", "It costs $1,234.50 in all.", "1234.5"),
        ("number", "-3", "\u22123"),
        ("number", "10 - 5 = 5.0", "5"),
        ("number", "정답은 48자루입니다.", "#### 48"),
        ("number", "③ 17", "17"),
        ("number", "정답: ③", "3"),
        ("number", "The answer is 1,000,000.", "1000000"),
        ("choice", "(b)", "B"),
        ("choice", "B. Paris", "B"),
        ("choice", "The correct answer is **C**.", "c"),
        ("choice", "A dog is no cat, so the answer is (D)", "D"),
        ("exact", "  Yes. ", "yes"),
        ("exact", "서울", "서울."),
    ],
)
def test_answers_that_mean_the_same_are_equal(check: Check, said: str, gold: str) -> None:
    """Words, units, separators and case around an answer do not count."""
    assert final_of(check, said) == final_of(check, gold) != ""


@pytest.mark.parametrize(
    ("check", "said", "gold"),
    [("number", "42.5", "42"), ("number", "5\u00b2", "52"), ("number", "none", "0"), ("choice", "A dog", "A"),
     ("choice", "I do not know.", "I"), ("exact", "yes and no", "yes")],
)  # fmt: skip
def test_answers_that_differ_are_not(check: Check, said: str, gold: str) -> None:
    """Neither a digit in an exponent nor an article is an answer."""
    assert final_of(check, said) != final_of(check, gold)


@given(st.text(max_size=80))
def test_any_text_can_be_compared(text: str) -> None:
    """A final answer is read, or there is none; never an exception. A number reads the same again."""
    for check in ("choice", "exact"):
        final_of(check, text)
    number = final_of("number", text)
    assert final_of("number", number) == number


@pytest.mark.skipif(not GSM8K.is_file(), reason=f"no {GSM8K}")
def test_gsm8k_golds_are_read() -> None:
    """In all 7,473 training rows the last number is the one after the four hashes."""
    golds = [orjson.loads(line)["answer"] for line in GSM8K.open("rb")]
    assert len(golds) == 7473
    assert all(final_of("number", gold) == gold.rsplit("#### ", 1)[1].replace(",", "").strip() for gold in golds)


def test_a_gold_answer_that_cannot_be_compared_is_refused_before_asking(tmp_path: Path) -> None:
    """The error names the row and what is missing."""
    for gold in (None, "", "about a dozen", ["42"]):
        with pytest.raises(UsageError, match=r"seeds\.jsonl:1: gold holds no number"):
            one(Reason(answer_field="gold"), tmp_path, thought("x", "42"), gold=gold)


def test_native_thinking_takes_no_prompt() -> None:
    """A prompt that would not be asked with is refused, and none counts."""
    with pytest.raises(ValidationError, match="leave `prompt` out"):
        Reason(thinking="native", prompt=Path("reason/en"))
    native, prompted = Reason(thinking="native"), Reason()
    assert native.identity()["prompt"] is None and native.prompt_name == ""
    assert set(prompted.identity()["prompt"]) == {"sha256"} and prompted.prompt_name.startswith("en@")
    assert Reason(language="ko").identity()["prompt"] != prompted.identity()["prompt"]
