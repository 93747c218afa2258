"""Identity: what an answer says of itself, and not what it says of others."""

import csv

import pytest

from filters.identity import Identity
from tests.filters.good_rows import chats_ko, documents, role_plays, self_instruct, shared, stories
from tests.helpers import record

SIGNED = [
    "As Qwen, I can help you with that.",
    "I am ChatGPT, a large language model trained by OpenAI.",
    "Hello! I'm Claude, an AI assistant made by Anthropic.",
    "I am Gemini, a large language model built by Google.",
    "As an AI developed by OpenAI, I must clarify that it is wrong.",
    "My name is Qwen. I was created by Alibaba Cloud.",
    "I'm DeepSeek-V3, an artificial intelligence assistant created by DeepSeek.",
    "I am an AI assistant trained by Foo Labs.",
    "I'm GPT-4.",
    "저는 네이버가 만든 하이퍼클로바X입니다.",
    "저는 OpenAI에서 개발한 인공지능 언어 모델입니다.",
    "저는 ChatGPT라고 합니다.",
    "저는 LG AI연구원에서 개발한 EXAONE입니다.",
    "저는 카카오에서 만든 AI 챗봇이에요.",
    "OpenAI에서 개발한 AI로서, 저는 의견이 없습니다.",
    "저는 클로드입니다. 앤트로픽이 만든 AI예요.",
    "您好，我是通义千问，由阿里云开发的。",
]
ENDED = [
    "My knowledge cutoff is September 2021, so I may not know.",
    "As of my last update in 2021, the president was Joe Biden.",
    "My training data only goes up to 2021.",
    "I was last updated in 2023.",
    "Please note that my knowledge is limited to data up to September 2021.",
    "제 지식은 2021년 9월까지의 정보에 기반합니다.",
    "저는 2021년 9월까지의 데이터로 학습되었습니다.",
    "제 마지막 업데이트는 2023년입니다.",
]
SOMEBODY_ELSE = [
    "ChatGPT was developed by OpenAI and released in 2022.",
    "GPT-4 is a large language model trained by OpenAI. Its knowledge cutoff is September 2021.",
    "I am using ChatGPT to write my essays.",
    "I am a Gemini, born in June.",
    "My name is Claude Monet, and I paint water lilies.",
    "I'm a llama who lives in Peru.",
    '"I am ChatGPT, made by OpenAI," said the robot.',
    "```\nI am ChatGPT\n```",
    "I was trained by a famous coach in Seoul.",
    "As of the last update, the software supports Python 3.",
    "I'm impressed by models developed by OpenAI.",
    "I am an OpenAI user.",
    "My training ends in May, when I become a nurse.",
    "저는 네이버가 만든 웹툰을 좋아해요.",
    "OpenAI는 2015년에 설립된 인공지능 연구소입니다.",
    "네이버가 개발한 하이퍼클로바X는 언어 모델입니다.",
    "제 학습 목표는 다음 주까지 책을 읽는 것입니다.",
    "내 생일은 6월이라 쌍둥이자리, 즉 Gemini야.",
    "제 이름은 민수입니다. 저는 구글에 다닙니다.",
]


@pytest.mark.parametrize("text", SIGNED)
def test_a_signature_is_found(text: str) -> None:
    """Names and makers, in the first person."""
    check = Identity().judge(record(text))
    assert (check.passed, check.reason) == (False, "teacher_signature") and check.value >= 1


@pytest.mark.parametrize("text", ENDED)
def test_a_knowledge_cutoff_is_found(text: str) -> None:
    """Unless the plan does not mind."""
    assert Identity().judge(record(text)).reason == "knowledge_cutoff"
    assert Identity(cutoff=False).judge(record(text)).passed


@pytest.mark.parametrize("text", SOMEBODY_ELSE)
def test_a_text_about_others_passes(text: str) -> None:
    """Companies, models, people and stars of the same name; quotations and code."""
    assert Identity().judge(record(text)).passed


def test_the_students_own_name_is_allowed() -> None:
    """A sentence that tells an allowed name passes; others beside it do not."""
    rule = Identity(allowed=("Miri", "Foo Labs"))
    assert rule.judge(record("I am Miri, an AI assistant developed by Foo Labs.")).passed
    assert not rule.judge(record("I am Miri, an AI assistant of Foo Labs. I was created by OpenAI.")).passed


def test_signatures_of_a_real_model_are_found() -> None:
    """XSTest: all 12 of GPT-4's answers that name OpenAI or its last update, and no other of the 450."""
    with shared("xstest/xstest_v2_completions_gpt4.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            text = row["completion"]
            assert Identity().judge(record(text)).passed == ("OpenAI" not in text and "my last" not in text), text[:300]


def test_good_rows_pass() -> None:
    """Stories, chats, role plays and documents about language models: none is dropped."""
    rows = [*stories("stories_ko"), *stories("stories_en"), *chats_ko(), *role_plays(), *self_instruct()]
    rows += [*documents("docs_hf_course"), *documents("docs_prompt_guide"), *documents("docs_transformers_ko")]
    lost = [check for row in rows if not (check := Identity().judge(record(row.answer))).passed]
    assert lost == []
