"""Wording: distinct-n and Self-BLEU agree with plain counts and with what sacrebleu and NLTK say."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import wording
from stages.diversity import DRAWS
from stages.wording import choices, compare, measure

# Means of sacrebleu 2.6 sentence_score(smooth_method="floor", smooth_value=0.1, effective_order=True) / 100, which
# NLTK 3.10's sentence_bleu with method1 and as many weights as a text has orders gives too.
KNOWN = [
    (
        [
            "The quick brown fox jumps over the lazy dog.",
            "the quick brown fox sleeps under the old tree",
            "A lazy dog sleeps over the fence!",
            "Nothing here is like the rest of them at all.",
        ],
        0.208304,
    ),
    (["one two three four five", "One two three, four five.", "six"], 0.666667),
    (["yes", "yes sir", "no sir, no", "the cat sat on the mat"], 0.200668),
    (["나는 학교에 간다", "나는 학교에 갔다", "오늘은 비가 온다"], 0.439983),
]


def bleu(text: str, others: list[str]) -> float:
    """BLEU of one text (a token a letter) against all others, each pair looked at."""
    logs = []
    for n in range(1, min(4, len(text)) + 1):
        grams = [Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in (text, *others)]
        matched = sum(min(c, max(g[gram] for g in grams[1:])) for gram, c in grams[0].items())
        if n == 1 and not matched:
            return 0
        logs.append(math.log(max(matched, 0.1) / (len(text) - n + 1)))
    closest = min((abs(len(t) - len(text)), len(t)) for t in others)[1]
    return math.exp(sum(logs) / len(logs)) * min(1, math.exp(1 - closest / len(text)))


@pytest.mark.parametrize(("texts", "expected"), KNOWN)
def test_self_bleu_is_that_of_known_libraries(texts: list[str], expected: float) -> None:
    """English, copies, texts too short for four-grams, Korean by the syllable."""
    assert measure(texts).self_bleu == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=2, max_size=7))
def test_self_bleu_needs_no_pairs(texts: list[str]) -> None:
    """The two largest counts of an n-gram give what a comparison with every other text gives."""
    expected = sum(bleu(t, texts[:i] + texts[i + 1 :]) for i, t in enumerate(texts)) / len(texts)
    assert measure([" ".join(text) for text in texts]).self_bleu == pytest.approx(expected, abs=1e-6)


def test_distinct_counts_different_ones() -> None:
    """Of six words four differ, of four pairs three; pairs do not reach from one text into the next."""
    found = measure(["a b a b", "c d"])
    assert found.distinct_1 == pytest.approx(4 / 6, abs=1e-6)
    assert found.distinct_2 == pytest.approx(3 / 4, abs=1e-6)


def test_case_marks_and_korean_spaces_make_no_difference() -> None:
    """A token is a word without case, or one syllable of Hangul."""
    assert measure(["A cat, a dog.", "the end"]) == measure(["a CAT a ｄｏｇ", "The End!"])
    assert measure(["나는 학교에 간다", "비가 온다"]) == measure(["나는학교에간다", "비 가온 다"])


def test_texts_too_few_or_too_short_say_nothing() -> None:
    """None instead of a figure; texts without a token are as if they were not there."""
    assert measure([]) == measure(["", "!?"]) == (None, None, None)
    assert measure(["word"]) == measure(["word", "..."]) == (1, None, None)
    assert measure(["two words"]) == (1, 1, None)


def test_repetitive_choices_look_worse_than_chance() -> None:
    """Half of 300 texts say the same: whoever chose those has the figures to show for it."""
    source = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(500)])
    texts = {row: "the same words every time" for row in range(150)}
    texts |= {row: " ".join(source.choice(words, 8)) for row in range(150, 300)}
    for rows, ours_is_worse in ((np.arange(40), True), (np.arange(200, 240), False)):
        found = compare(choices(300, rows, 0), texts).figures
        for figure in found.values():
            assert figure.chosen is not None and figure.random is not None
            worse = (figure.chosen < figure.random.low, figure.chosen > figure.random.high)
            assert worse == ((figure.better == "higher") == ours_is_worse, (figure.better == "lower") == ours_is_worse)


def test_sets_of_equal_size_are_compared() -> None:
    """At most 200 texts a set, the same number of each, from the chosen and from all; all of them are wanted."""
    rows = np.arange(0, 2000, 2)
    found = choices(2000, rows, 3)
    assert found == choices(2000, rows, 3) != choices(2000, rows, 4)
    assert {len(found.chosen), *map(len, found.drawn)} == {wording.TEXTS}
    assert set(found.chosen) <= set(rows.tolist()) and len(found.drawn) == DRAWS
    assert any(row % 2 for drawn in found.drawn for row in drawn)
    assert found.wanted() == sorted(set(found.chosen).union(*found.drawn))
    few = choices(2000, rows[:7], 3)
    assert {len(few.chosen), *map(len, few.drawn)} == {7}
    plain = compare(few, {row: f"text number {row}" for row in few.wanted()}).plain()
    assert (plain["chosen"], plain["looked_at"]) == (7, 7)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert compare(found, dict.fromkeys(found.wanted(), "x")).chosen == 1000


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    """What stands behind the first 20,000 characters changes nothing."""
    text = "word " * (wording.CHARS // 5)
    assert measure([text, "other"]) == measure([text + "and a tail of new ones", "other"])
