"""Repetition: loops fail, texts that repeat on purpose pass."""

import pytest

from filters import ngrams
from filters.repetition import Repetition
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
SONG = """The wheels on the bus go round and round, round and round, round and round.
The wheels on the bus go round and round, all through the town.
The wipers on the bus go swish, swish, swish, swish, swish, swish, swish, swish, swish.
The wipers on the bus go swish, swish, swish, all through the town."""
TIMES = "\n".join(f"{a} x {b} = {a * b}" for a in range(2, 5) for b in range(1, 10))
TABLE = "| name | size |\n|---|---|\n" + "\n".join(f"| item {n} | {n * 7} cm |" for n in range(12))
CODE = "```python\nfor i in range(3):\n    print(i)\n\nfor j in range(4):\n    print(j)\n```"
NUMBERS = ", ".join(map(str, range(1, 101)))
RULE = "Heading\n" + "-" * 80


@pytest.mark.parametrize(
    "text",
    [
        RABBIT,
        FOX,
        SONG,
        TIMES,
        TABLE,
        CODE,
        NUMBERS,
        RULE,
        "",
        "yes",
        "토끼",
        "네, 네, 네!",
        "Ha ha ha ha ha!",
        "ㅋㅋㅋㅋㅋㅋㅋ",
    ],
)
def test_ordinary_text_passes(text: str) -> None:
    """Stories, songs, tables, sums, code, rules and short answers pass with the default bounds."""
    check = Repetition().judge(record(text))
    assert check.passed, check.detail


@pytest.mark.parametrize(
    "loop",
    [
        "The fox ran and ran. ", "토끼가 숲으로 갔어요. ", "토끼가숲으로갔어요.", "ha", "type of a ", "그래서 ",
        "森へ行きました。",
        "I'm sorry, but I can't help with that. Please try again later, and have a nice day, my friend. ",
    ],
)  # fmt: skip
@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_looping_end_fails(loop: str, cut: int) -> None:
    """A text that ends in one unit over and over is dropped, wherever the last turn was cut."""
    text = f"{FOX if loop.isascii() else RABBIT}\n\n{loop * 60}"
    check = Repetition().judge(record(text[: len(text) - cut]))
    assert check.reason == "looping_end", check
    assert check.value > 0.15
    assert "to the end" in check.detail


def test_numbers_before_the_lines_do_not_hide_a_loop() -> None:
    """A list whose items are all the same is a loop."""
    items = "\n".join(f"{n}. Write down what you want to learn." for n in range(1, 12))
    assert Repetition().judge(record(f"Here is a plan:\n{items}\n12. Write down")).reason == "looping_end"


def test_half_a_character_at_the_end_does_not_hide_a_loop() -> None:
    """Where tokens run out inside a Korean letter, a replacement character ends the text."""
    assert Repetition().judge(record("그래도 어렵게도 했도만" + "에도만" * 20 + "\ufffd")).reason == "looping_end"


def test_two_turns_are_no_loop() -> None:
    """A chorus sung twice at the end passes."""
    chorus = "We all live in a yellow boat, a yellow boat, a yellow boat.\n"
    assert Repetition().judge(record(f"{FOX}\n{chorus * 2}")).passed


def test_repeated_lines_fail() -> None:
    """The same line again and again is dropped as lines, before anything else is looked at."""
    check = Repetition().judge(record("달이 떴어요.\n별도 떴어요.\n" * 10))
    assert check.reason == "repeated_lines"
    assert check.value == pytest.approx(0.9)


def test_repeated_paragraphs_fail() -> None:
    """Whole paragraphs told again count as such where lines may repeat."""
    check = Repetition(max_line_share=1).judge(record(f"{FOX}\n\n{FOX}\n\n{FOX}\n\n{RABBIT}\n\n{FOX}"))
    assert check.reason == "repeated_paragraphs"


def test_a_long_passage_told_twice_fails() -> None:
    """Text that is copied whole fails by its long n-grams though no short one dominates."""
    check = Repetition(max_duplicate={5: 0.4}).judge(record(f"{FOX} {FOX}"))
    assert check.reason == "duplicate_ngrams"
    assert check.value == pytest.approx(0.5, abs=0.01)


def test_particles_do_not_hide_korean_repetition() -> None:
    """Where a particle changes every word n-gram, character n-grams still repeat."""
    animals = [
        "토끼가",
        "토끼는",
        "토끼도",
        "토끼만",
        "곰이",
        "곰은",
        "곰도",
        "곰만",
        "여우가",
        "여우는",
        "여우도",
        "여우만",
    ]
    text = " ".join(f"{animal}숲으로갔다가집으로돌아왔어요." for animal in animals)
    check = Repetition(max_top={}, max_duplicate={}, max_character_share=0.5).judge(record(text))
    assert check.reason == "repeated_characters"
    assert Repetition(max_character_share=0.5).judge(record(RABBIT)).passed


def test_what_compresses_too_well_fails() -> None:
    """A pattern that no n-gram shows shows in the compression ratio."""
    text = "".join(f"{chr(97 + n % 3)}{n % 2}{n % 5} " for n in range(2000))
    bounds = {n: 1.0 for n in (2, 5)}
    check = Repetition(max_top=bounds, max_duplicate=bounds, max_loop_share=1).judge(record(text))
    assert check.reason == "compressible"
    assert check.value > 8


def test_a_phrase_may_stand_so_often_and_no_oftener() -> None:
    """`at_most` counts a phrase wherever it stands; the bound itself passes."""
    rule = Repetition(at_most={"같은": 5})
    animals = ["토끼", "곰", "여우", "오리", "사자", "기린"]
    five, six = (" ".join(f"{a}와 같은 친구." for a in animals[:n]) for n in (5, 6))
    assert rule.judge(record(five)).reason != "repeated_phrase"
    check = rule.judge(record(six))
    assert (check.reason, check.value, check.detail) == ("repeated_phrase", 6, "'같은' stands 6 times, over 5")


def test_case_of_a_phrase_does_not_matter() -> None:
    """`once upon a time` in a plan also counts the one that begins a sentence, or is broken by a line."""
    rule = Repetition(at_most={"once upon a time": 2})
    assert rule.judge(record("Once upon a time. Once upon\na time. ONCE upon a time.")).reason == "repeated_phrase"


def test_a_passing_text_tells_its_nearest_measure() -> None:
    """The value of a text that passes is the measure that came nearest its bound, named in the detail."""
    check = Repetition().judge(record(f"{FOX}\n{RABBIT}\n{FOX}"))
    assert check.passed
    assert check.value > 0
    assert check.detail


def test_shares_are_of_characters() -> None:
    """The measures against values worked out by hand."""
    assert ngrams.repeated_lines("aa\nbb\naa\n\n aa ") == 4 / 8
    assert ngrams.repeated_paragraphs("aa\nb\n\ncc\n\naa\nb") == 4 / 10
    words = ("a", "b", "c", "a", "b", "c", "d")
    found = {repeats.n: repeats for repeats in ngrams.repeats(words, 5)}
    assert list(found) == [2, 3]
    assert ngrams.top(words, found[3]) == (("a", "b", "c"), 6)
    assert ngrams.duplicates(words, found[2]) == 3
    (same, _) = ngrams.repeats(("a", "a", "a", "a"), 3)
    assert ngrams.top(("a", "a", "a", "a"), same) == (("a", "a"), 4)
    assert ngrams.character_duplicates("abcdabcdxx", 4) == 4 / 10
    assert ngrams.repeated_lines("") == ngrams.character_duplicates("", 10) == 0.0
    assert list(ngrams.repeats((), 10)) == list(ngrams.repeats(("a",), 10)) == []


def test_a_huge_text_is_measured_by_its_end() -> None:
    """Twenty megabytes take a second, not minutes."""
    assert Repetition().judge(record(FOX + "a" * 20_000_000)).reason == "looping_end"
