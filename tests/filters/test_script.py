"""Script: which script the letters belong to."""

import pytest
from pydantic import ValidationError

from filters.script import Script
from tests.helpers import record


def test_korean_and_english_are_told_apart() -> None:
    """Hangul wants Korean, Latin wants English."""
    assert Script(script="Hangul").judge(record("토끼가 왔어요.")).value == 1
    assert Script(script="Hangul").judge(record("A rabbit came.")).reason == "wrong_script"
    assert Script(script="Latin").judge(record("A rabbit came.")).passed
    assert Script(script="Latin").judge(record("토끼가 왔어요.")).reason == "wrong_script"


def test_only_letters_count() -> None:
    """Digits, marks, spaces and emoji are on nobody's side."""
    assert Script(script="Hangul", min_share=1).judge(record("토끼 3마리!! 🐰 -- 12:30")).value == 1


def test_the_share_is_measured() -> None:
    """Half of the letters in Hangul is a share of one half, and the bound itself passes."""
    check = Script(script="Hangul", min_share=0.5).judge(record("가나 ab"))
    assert (check.passed, check.value) == (True, 0.5)
    check = Script(script="Hangul", min_share=0.51).judge(record("가나 ab"))
    assert (check.passed, check.detail) == (False, "50% Hangul, under 51%")


@pytest.mark.parametrize("text", ["", "42", "1 + 1 = 2", "🐰🐻🦊", "```py\nprint(1)\n```"])
def test_an_answer_without_letters_passes(text: str) -> None:
    """A number, or code alone, is in no script, so in no wrong one."""
    check = Script(script="Hangul").judge(record(text))
    assert (check.passed, check.detail) == (True, "no letters")


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("Hangul", "이 문제를 解决하기 위해 먼저 식을 세워 봅시다. 그리고 답을 구합니다."),
        ("Hangul", "토끼는 달을 보며 очень 기뻐했어요. 그리고 집으로 돌아갔습니다."),
        ("Hangul", "오늘은 날씨가 とても 좋아서 공원에 갔어요."),
        ("Latin", "The fox found a boat and 然后 sailed home before the night came."),
        ("Latin", "The cаt sat on the mat all day."),  # the a of cat is Cyrillic
    ],
)
def test_a_slip_into_another_script_is_found(script: str, text: str) -> None:
    """A foreign word, even a letter, in a text is dropped; the detail shows it."""
    check = Script(script=script).judge(record(text))
    assert check.reason == "foreign_script"
    assert 0.5 < check.value < 1
    assert "% of the letters, over 0.5%" in check.detail


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("Hangul", "대한민국(大韓民國)의 수도는 서울입니다."),
        ("Hangul", "인공지능(AI) 모델 GPT를 Python으로 써 봅시다. ㅋㅋㅋ"),
        ("Hangul", "각 α와 β의 합은 π입니다. 값은 µ로 잽니다."),
        ("Latin", "The word “привет” means hello, and 'さようなら' means goodbye."),
        ("Latin", "naïve café, Łódź, Đà Nẵng; x ∈ ℝ, Δx = 2"),
        ("Latin", "Run this: ```print('안녕하세요')``` and see."),
    ],
)
def test_words_spoken_of_are_no_slip(script: str, text: str) -> None:
    """Words in brackets or quotes, symbols, accents and code stay; Latin is allowed beside any script."""
    assert Script(script=script).judge(record(text)).passed


def test_what_the_prompt_asks_for_is_no_slip() -> None:
    """A translation may be in the other script, and so may an answer about words of the prompt."""
    rule = Script(script="Hangul")
    assert rule.judge(record("The rabbit came.", prompt="다음 문장을 영어로 옮겨 주세요: 토끼가 왔어요.")).passed
    assert rule.judge(record("愛는 사랑이라는 뜻이고 心은 마음입니다.", prompt="愛와 心의 뜻은?")).passed
    assert not rule.judge(record("The rabbit came.", prompt="토끼 이야기를 한국어로 써 주세요.")).passed
    assert not rule.judge(record("The rabbit came.", prompt="토끼 이야기를 써 주세요.")).passed


def test_allowed_scripts_are_a_setting() -> None:
    """Japanese is three scripts; without Latin allowed an English word is foreign."""
    japanese = Script(script="Hiragana", min_share=0.2, allowed=("Han", "Katakana"))
    assert japanese.judge(record("ウサギは月を見て、とても喜びました。", prompt="お話を")).passed
    assert japanese.judge(record("ウサギは moon を見て、喜びました。", prompt="お話を")).reason == "foreign_script"


@pytest.mark.parametrize("name", ["Hangeul", "Korean", "", "Latin}|\\p{Greek", "."])
def test_an_unknown_script_is_refused(name: str) -> None:
    """A misspelt script fails when the plan is read, not when the first record comes."""
    with pytest.raises(ValidationError, match="is no Unicode script"):
        Script(script=name)
    with pytest.raises(ValidationError, match="is no Unicode script"):
        Script(allowed=(name,))
