"""Finish: answers that stop before they are done, and answers that need no full stop."""

import csv

import pytest

from filters.finish import Finish
from pipeline.records import MadeBy
from tests.filters.good_rows import (
    alpaca_rows,
    chats_ko,
    documents,
    role_plays,
    self_instruct,
    shared,
    solutions,
    stories,
)
from tests.helpers import record

LONG = "The fox ran home before the rain began. It was glad of the fire. " * 6
LONG_KO = "여우는 비가 오기 전에 집으로 돌아갔어요. 난로가 따뜻해서 기뻤어요. " * 8
STEPS = "".join(
    f"{n}. **Step {n}:** Take the brush and paint the whole wall from the top to the bottom.\n" for n in range(1, 6)
)
CUT = [
    ("```python\nprint(1)", "unclosed_fence"),
    ("Here:\n\n````md\n```\nx\n```\n", "unclosed_fence"),
    ('{"name": "Ann", "age": 3', "broken_json"),
    ('[{"a": 1}, {"a": "tw', "broken_json"),
    (LONG + "Then it went to the", "cut_sentence"),
    (LONG + "Then it looked out of the window and saw", "cut_sentence"),
    (LONG_KO + "그러고 나서 여우는 창밖을", "cut_sentence"),
    (STEPS + "6. **Clean", "cut_sentence"),
    (STEPS + "6.", "cut_sentence"),
    (STEPS + "6. Wash the", "cut_sentence"),
    ("The best way to learn is to read and", "cut_sentence"),
    ("You need flour, sugar, two eggs,", "cut_sentence"),
]
WHOLE = [
    "", "yes", "Paris", "The Old Man and the Sea", "a, an, the", "basketball",
    "- apples\n- pears\n- plums", "1. Wash\n2. Peel\n3. Cook", "| a | b |\n|---|---|\n| 1 | 2 |",
    "```python\nprint(1)\n```", "Run this:\n\n```\nls\n```", '{"a": 1}', '{"a": 1}\n{"a": 2}', "{'a': 1}", "[1, 2, 3]",
    "Roses are red\nViolets are blue\nSugar is sweet\nAnd so are you", "x = [1, 2", "\\[ x = 2 \\]", "72", "#### 72",
    LONG + "See https://example.org/a/b", LONG + "\n\nSincerely,\nAnn Miller", LONG + "I love it! 😊", LONG.strip(),
    LONG_KO + "그래서 모두 행복했답니다", LONG_KO.strip(), "오늘은 날씨가 좋네요", "사과", "위로해 드립니다",
    "감사합니다 :)", "すべて終わりました", "这是一个测试",
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), CUT)
def test_a_cut_answer_is_found(text: str, reason: str) -> None:
    """The value is the length of the open end."""
    check = Finish().judge(record(text))
    assert (check.passed, check.reason) == (False, reason), check
    assert 0 < check.value <= len(text) and check.detail


@pytest.mark.parametrize("text", WHOLE)
def test_a_whole_answer_passes(text: str) -> None:
    """Titles, lists, tables, verse, code, signatures, faces, and Korean without a full stop."""
    check = Finish().judge(record(text))
    assert check.passed and check.value == 0, check


def test_the_engines_word_counts_first() -> None:
    """finish_reason length drops an answer however it looks; stop and none say nothing."""
    for reason, expected in (("length", "cut_by_length"), ("content_filter", "content_filter"), ("stop", ""), ("", "")):
        assert Finish().judge(record("All done.", made_by=MadeBy(finish_reason=reason))).reason == expected
    assert Finish(on="prompt").judge(record("Cut", made_by=MadeBy(finish_reason="length"))).passed


def test_sentences_may_be_left_alone() -> None:
    """Without `sentences` only fences and JSON are looked at."""
    assert Finish(sentences=False).judge(record(LONG + "Then it went to the")).passed
    assert not Finish(sentences=False).judge(record("```\nx")).passed


def test_answers_cut_at_a_token_limit_are_found() -> None:
    """XSTest's answers of GPT-4 stop at 256 tokens: 69 of the 79 without an end are found, and of the 371 others 3,
    which end with the bare number of an item.
    """
    with shared("xstest/xstest_v2_completions_gpt4.csv").open(encoding="utf-8") as file:
        texts = [row["completion"].strip() for row in csv.DictReader(file)]
    ended = [text[-1:] in '.!?")`' for text in texts]
    cut = [not Finish().judge(record(text)).passed for text in texts]
    assert sum(c and not e for c, e in zip(cut, ended, strict=True)) / ended.count(False) >= 0.8
    assert sum(c and e for c, e in zip(cut, ended, strict=True)) <= 3


def test_good_rows_pass() -> None:
    """None of 22,000 short answers, Korean stories and documents; 1 in 300 of long English texts by people."""
    rows = [*stories("stories_ko"), *chats_ko(), *alpaca_rows(), *solutions(), *self_instruct()]
    rows += [*documents("docs_vue_ko"), *documents("docs_hf_course"), *documents("docs_prompt_guide")]
    assert [row.answer[-80:] for row in rows if not Finish().judge(record(row.answer)).passed] == []
    long = [*stories("stories_en"), *role_plays()]
    assert sum(not Finish().judge(record(row.answer)).passed for row in long) / len(long) <= 0.003
