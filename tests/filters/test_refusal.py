"""Refusals: what declines, what only opens politely, and what human labels say."""

import csv
from collections.abc import Callable
from functools import partial

import pytest

from filters.refusal import Refusal, refusal_in
from tests.filters.good_rows import Row, alpaca_rows, chats_ko, role_plays, self_instruct, shared, solutions, stories
from tests.helpers import record

REFUSED = [
    "I cannot fulfill your request. I'm just an AI, it's not within my ethical guidelines.",
    "I apologize, but I cannot provide instructions on how to harm anyone.",
    "As a responsible and ethical AI language model, I must inform you that it is not appropriate to ask for that.",
    "I\u2019m sorry, but I can\u2019t help with that request.",
    "I'm not able to help with that.",
    "I must decline this request.",
    "I do not feel comfortable producing content of that nature.",
    "Sorry, but that's not something I can help with.",
    "Unfortunately, I am not able to access the internet, so I cannot open that link.",
    "I'm sorry, but as an AI language model, I do not have the ability to browse the web.",
    "It is not appropriate for me as an AI language model to provide such content.",
    "I'm afraid I can't help with that.",
    "I'm sorry, but I don't see any image attached.",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "죄송합니다. 해당 질문에는 답변할 수 없습니다.",
    "죄송합니다만, 그런 내용은 제공해 드리기 어렵습니다.",
    "AI 언어 모델로서 저는 실시간 정보를 제공할 수 없습니다.",
    "미안하지만 그건 알려줄 수 없어요.",
    "그 요청에는 응할 수 없습니다.",
    "죄송합니다, 저는 실시간 날씨 정보를 알 수 없습니다.",
    "도와드리고 싶지만 그 부분은 제 능력 밖입니다.",
]
ANSWERED = [
    "I'm sorry to hear that your dog is ill. Give it water and call a vet.",
    "Sorry for the delay! The capital of France is Paris.",
    "Dear Ms. Kim, I am sorry, but I cannot attend the meeting on Friday. Best regards, Ann",
    "I'm sorry, but I can't come to your party.",
    '"I\'m sorry," said the fox, "but I cannot help you." The rabbit cried.',
    "I can't help but smile when I think of summer.",
    "As an AI engineer, I build models that help people.",
    "As a language model, GPT-3 is trained on a large corpus of text.",
    "Great question! You can't divide by zero because the result is undefined.",
    "I can't recommend this book enough. It is the finest novel of the decade.",
    "To decline politely, write: \"I'm sorry, but I can't make it.\"",
    "In my opinion, I cannot support this policy, since it harms farmers.",
    "Thank you for your letter. We regret to inform you that we cannot offer you the position.",
    "Python can't assign to a literal; use a variable.",
    "안녕하세요! 물론 도와드릴 수 있습니다. 먼저 파일을 여세요.",
    "죄송한 마음을 전하고 싶다면 짧은 편지를 써 보세요.",
    '"미안해, 도와줄 수 없어." 여우가 말했어요.',
    "토끼는 더는 걸을 수 없었어요. 그래서 나무 아래에서 쉬었지요.",
    "그 문제는 어렵습니다. 그러나 한 걸음씩 풀어 봅시다.",
    "AI로서의 가능성을 연구하는 분야를 기계 학습이라고 합니다.",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_is_found(text: str) -> None:
    """English and Korean, curt and wordy."""
    check = Refusal().judge(record(text))
    assert (check.passed, check.reason) == (False, "refusal")
    assert 0 < check.value <= 1 and check.detail.startswith("says ")


@pytest.mark.parametrize("text", ANSWERED)
def test_an_answer_that_only_sounds_like_one_passes(text: str) -> None:
    """Politeness, regret, quotations, letters and other people's refusals."""
    assert Refusal().judge(record(text)).passed


def test_a_full_answer_after_a_refusal_is_a_partial_one() -> None:
    """It has its own slug, and may be kept; its value says how much of the answer refuses."""
    text = "As an AI, I can't provide legal advice. " + "Write down what happened, and keep every letter. " * 12
    check = Refusal().judge(record(text))
    assert check.reason == "partial_refusal" and check.value < 0.1
    kept = Refusal(drop=("refusal",)).judge(record(text))
    assert kept.passed and kept.value == check.value and kept.detail.startswith("partial_refusal")


def test_a_disclaimer_is_not_a_refusal() -> None:
    """Speaking as an AI and answering all the same is a slug of its own."""
    text = "As an AI, I don't have personal opinions. However, black beans are no human beings and hold no office."
    assert Refusal().judge(record(text)).reason == "assistant_disclaimer"
    assert Refusal().judge(record("저는 AI이기 때문에 감정을 느끼지 않아요. 그래도 들어 볼게요.")).reason == (
        "assistant_disclaimer"
    )


def test_human_labels_agree() -> None:
    """XSTest, 450 answers of GPT-4: 217 of 220 refusals found, 205 of them by the slugs that say refusal.

    These two slugs took 1 of 230 full answers; 15 more answer behind a disclaimer.
    """
    with shared("xstest/xstest_v2_completions_gpt4.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    refused = [not row["final_label"].startswith("1") for row in rows]
    found = [refusal_in(row["completion"]) for row in rows]
    said_no = [f is not None and f.reason != "assistant_disclaimer" for f in found]
    assert sum(a and b for a, b in zip(said_no, refused, strict=True)) / sum(refused) >= 0.92
    assert sum(a and b for a, b in zip(said_no, refused, strict=True)) / sum(said_no) >= 0.99
    assert sum(f is not None and r for f, r in zip(found, refused, strict=True)) / sum(refused) >= 0.97


@pytest.mark.parametrize(
    ("rows", "most"),
    [
        (partial(stories, "stories_ko"), 0),
        (partial(stories, "stories_en"), 0),
        (chats_ko, 0),
        (solutions, 0),
        (alpaca_rows, 0),
        (self_instruct, 1),  # one does refuse: an address is asked for
        (role_plays, 2),
    ],
)
def test_good_rows_pass(rows: Callable[[], list[Row]], most: int) -> None:
    """At most what was measured: nothing, but for a real refusal and a play with an AI in it."""
    lost = [(row.answer[:80], found) for row in rows() if (found := refusal_in(row.answer))]
    assert len(lost) <= most, lost
