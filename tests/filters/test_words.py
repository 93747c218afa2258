"""Words: banned words are found as words, in Latin script, in Korean, and where the two meet."""

import pickle
import unicodedata
from pathlib import Path

import pytest
from pydantic import ValidationError

from filters.wordlist import WordList
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


@pytest.mark.parametrize(
    "text",
    [
        "로봇입니다",
        "로봇이었어요",
        "로봇이라고",
        "로봇들은",
        "로봇에게서도",
        "로봇처럼",
        "로봇과",
        "로봇까지만",
        "로봇예요",
        "AI로봇이",
        "(로봇)",
    ],
)
def test_particles_plurals_and_the_copula_do_not_hide_a_word(text: str) -> None:
    """Whatever Korean grammar puts behind a noun, the noun is found."""
    assert holds(text, "로봇")


def test_a_verb_made_of_a_noun_is_found() -> None:
    """하다, 되다 and their forms make verbs of nouns."""
    assert holds("그는 도박했습니다", "도박")
    assert holds("감금당한 사람", "감금")


@pytest.mark.parametrize(
    ("word", "text"), [("시발", "시발점에서 출발했다"), ("로봇", "로봇공학을 배웠다"), ("개", "개나리가 피었다")]
)
def test_a_korean_word_is_not_found_at_the_start_of_a_longer_noun(word: str, text: str) -> None:
    """A longer noun is another word; a star bans it, too."""
    assert not holds(text, word)
    assert holds(text, f"{word}*")


def test_a_star_lets_anything_follow() -> None:
    """`robot*` also bans `robotics`; a star alone is plain text."""
    assert holds("She studies robotics.", "robot*")
    assert not holds("She studies robotics.", "robot")
    assert not holds("microrobots", "robot*")
    assert not holds("robot", "*")


@pytest.mark.parametrize("text", ["他是坏人吗", "彼は坏人だ", "坏人"])
def test_han_words_are_found_anywhere(text: str) -> None:
    """Scripts without spaces have no word boundaries to look for."""
    assert holds(text, "坏人")


def test_required_words_have_to_stand() -> None:
    """All of them, or any; the detail names the first that is missing."""
    everything = Words(required=("달", "토끼", "fox"))
    assert everything.judge(record("토끼가 달에서 Fox를 보았다")).passed
    check = everything.judge(record("토끼가 왔다"))
    assert (check.reason, check.value, check.detail) == ("missing_word", 2, "lacks '달' and 1 more")
    assert Words(required=("달", "토끼"), require="any").judge(record("토끼가 왔다")).passed
    assert Words(required=("달", "해"), require="any").judge(record("토끼가 왔다")).reason == "missing_word"


def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """No file, another encoding, no words: each is said when the plan is read, with the line."""
    cp949, empty = tmp_path / "cp949.txt", tmp_path / "empty.txt"
    cp949.write_bytes("fine\n로봇\n".encode("cp949"))
    empty.write_text("# nothing\n")
    for file, said in (
        (tmp_path / "none.txt", "no such file"),
        (cp949, "cp949.txt:2 is not UTF-8"),
        (empty, "no words"),
    ):
        with pytest.raises(ValidationError, match=said):
            Words(banned_file=file)


def test_thousands_of_words_cost_one_pass() -> None:
    """Five thousand words are found as fast as five, and survive a trip to another process."""
    many = WordList([f"word{n}" for n in range(5000)])
    assert list(pickle.loads(pickle.dumps(many)).found("word7 word4999 word5000 sword7")) == ["word7", "word4999"]


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
