"""Words: banned words are found as words, in Latin script, in Korean, and where the two meet."""

import unicodedata
from pathlib import Path

import pytest

from filters.words import Words
from tests.helpers import record


def holds(text: str, *banned: str) -> bool:
    return not Words(banned=banned).judge(record(text)).passed


@pytest.mark.parametrize("text", ["AI가 말했다", "AI는 기계다", "I am an AI.", "(AI)", "ai", "한국AI협회", "AI"])
def test_a_latin_word_is_found_beside_korean_and_marks(text: str) -> None:
    """Korean particles and punctuation end a Latin word; case does not matter."""
    assert holds(text, "AI")


@pytest.mark.parametrize("text", ["she said", "MAIL", "aiming", "AI2", "He paid a fair price", "A I"])
def test_a_latin_word_is_not_found_inside_another(text: str) -> None:
    """Letters and digits of the same script continue a word."""
    assert not holds(text, "AI")


@pytest.mark.parametrize("text", ["로봇이 왔어요", "로봇은 친구예요", "작은 로봇", "로봇!", "'로봇'처럼"])
def test_a_korean_word_is_found_with_its_particle(text: str) -> None:
    """Particles after a Hangul word do not hide it."""
    assert holds(text, "로봇")


def test_a_korean_word_is_not_found_at_the_end_of_another() -> None:
    """Syllables before a Hangul word make it another word."""
    assert not holds("에어로봇", "로봇")


def test_unicode_form_does_not_matter() -> None:
    """Decomposed Korean and full-width Latin are found, whichever side is written so."""
    decomposed = unicodedata.normalize("NFD", "로봇")
    assert holds(f"{decomposed}이 왔어요", "로봇")
    assert holds("로봇이 왔어요", decomposed)
    assert holds("\uff21\uff29 가", "AI")


def test_a_phrase_is_found_across_a_line_break() -> None:
    """White space of any sort separates the words of a phrase."""
    assert holds("저는 언어\n  모델입니다", "언어 모델")
    assert holds("As a Language\tModel, I", "language model")
    assert not holds("a language of models", "language model")


def test_regex_characters_are_plain_text() -> None:
    """Banned words are never patterns."""
    assert holds("he writes C++ at night", "C++")
    assert not holds("he writes CCC", "C+")
    assert not holds("anything", ".*")


def test_the_first_find_and_the_count_are_reported() -> None:
    """The value counts finds, the detail shows the first."""
    check = Words(banned=("gun", "blood")).judge(record("Blood on the gun."))
    assert (check.value, check.reason, check.detail) == (2, "banned_word", "found 'blood'")


def test_a_list_in_a_file(tmp_path: Path) -> None:
    """A file gives one word a line; comments, empty lines and a byte order mark are no words."""
    file = tmp_path / "banned.txt"
    file.write_text("\ufeffkill\n# guns\n   # indented\n\n  무기  \n", encoding="utf-8")
    rule = Words(banned=("blood",), banned_file=file)
    assert [rule.judge(record(t)).passed for t in ("they kill", "무기를", "blood", "guns", "# indented")] == [
        False, False, False, True, True,
    ]  # fmt: skip


def test_nothing_banned_passes_everything() -> None:
    """No list at all is no reason to drop."""
    assert Words().judge(record("AI")).passed
    assert Words(banned=("", "  ")).judge(record("AI")).passed
