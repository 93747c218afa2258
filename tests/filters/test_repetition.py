"""Repetition: loops fail, stories that repeat on purpose pass."""

import pytest

from filters.repetition import Repetition, duplicate_ngrams, repeated_lines, top_ngram
from tests.helpers import record

RABBIT = (
    "옛날 어느 숲에 작은 토끼가 살았어요. 토끼는 달을 아주 좋아했어요. 어느 날 밤, 토끼는 달에게 편지를 썼어요. "
    "바람이 편지를 물고 하늘 높이 날아갔지요. 다음 날 밤 달이 환하게 웃으며 내려다보았어요. "
    "토끼는 기뻐서 깡충깡충 춤을 추었답니다. 그 뒤로 둘은 날마다 이야기를 나누었어요."
)
FOX = (
    "Once upon a time a little fox found a red boat by the river. The fox pushed the boat into the water and "
    "hopped in. A duck swam beside him and showed him the way. They shared an apple for lunch. When the moon "
    "came up, the duck led the fox home, and his mother gave him a warm hug."
)


@pytest.mark.parametrize("text", [RABBIT, FOX, "", "토끼", "one two three"])
def test_ordinary_text_passes(text: str) -> None:
    """Stories in both languages pass with the default bounds, and so does what is too short to repeat."""
    assert Repetition().judge(record(text)).passed


@pytest.mark.parametrize("loop", ["The fox ran and ran. ", "토끼가 숲으로 갔어요. "])
def test_a_loop_fails(loop: str) -> None:
    """A sentence said over and over is dropped for its n-grams."""
    check = Repetition().judge(record(loop * 20))
    assert not check.passed
    assert check.reason in ("repeated_ngram", "duplicate_ngrams")


def test_repeated_lines_fail() -> None:
    """The same line again and again is dropped as lines, before n-grams are looked at."""
    check = Repetition().judge(record("달이 떴어요.\n" * 10))
    assert check.reason == "repeated_lines"
    assert check.value == pytest.approx(0.9)


def test_a_long_passage_told_twice_fails() -> None:
    """Text that is copied whole fails by its long n-grams though no short one dominates."""
    check = Repetition(max_duplicate_share=0.4).judge(record(f"{FOX} {FOX}"))
    assert check.reason == "duplicate_ngrams"
    assert check.value == pytest.approx(0.5, abs=0.01)


def test_a_phrase_may_stand_so_often_and_no_oftener() -> None:
    """`at_most` counts a phrase wherever it stands; the bound itself passes."""
    rule = Repetition(at_most={"같은": 5})
    animals = ["토끼", "곰", "여우", "오리", "사자", "기린"]
    five, six = (" ".join(f"{a}와 같은 친구." for a in animals[:n]) for n in (5, 6))
    assert rule.judge(record(five)).reason != "repeated_phrase"
    check = rule.judge(record(six))
    assert (check.reason, check.value, check.detail) == ("repeated_phrase", 6, "'같은' stands 6 times, over 5")


def test_case_of_a_phrase_does_not_matter() -> None:
    """`once upon a time` in a plan also counts the one that begins a sentence."""
    rule = Repetition(at_most={"once upon a time": 2}, max_top_share=1, max_duplicate_share=1)
    assert rule.judge(record("Once upon a time. Once upon a time. Once upon a time.")).reason == "repeated_phrase"


def test_shares_are_of_characters() -> None:
    """The three measures against values worked out by hand."""
    assert repeated_lines("aa\nbb\naa\n\n aa ") == 4 / 8
    assert top_ngram(["a", "b", "c", "a", "b", "c", "d"], 3) == 6 / 7
    assert top_ngram(["a", "a", "a", "a"], 3) == 1.0
    assert top_ngram(["a", "b", "c"], 3) == 0.0
    assert duplicate_ngrams(["a", "b", "x", "a", "b", "y"], 2) == 2 / 6
    assert repeated_lines("") == top_ngram([], 3) == duplicate_ngrams([], 8) == 0.0
