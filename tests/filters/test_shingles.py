"""Shingles: what a token is, and that hashes depend on nothing but the text."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from filters.shingles import Unit, batches, ngrams, shingles, tokenize

ROOT = Path(__file__).resolve().parents[2]


def tokens(text: str, unit: Unit = "auto") -> list[str]:
    found = tokenize([text], unit)
    return [found.text[a:b] for a, b in zip(found.starts, found.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "unit", "wanted"),
    [
        ("The fox's 3.5 km, don't!", "auto", ["The", "fox", "s", "3", "5", "km", "don", "t"]),
        ("AI가 왔다", "auto", ["AI", "가", "왔", "다"]),
        ("AI가 왔다", "words", ["AI가", "왔다"]),
        ("ab 가", "characters", ["a", "b", "가"]),
        ("漢字とカナ", "auto", ["漢", "字", "と", "カ", "ナ"]),
        ("हिन्दी में", "auto", ["हिन्दी", "में"]),
        ("naïve Ⅳ ﬁn", "auto", ["naïve", "IV", "fin"]),
        ("🐰 — …", "auto", []),
        ("", "auto", []),
    ],
)
def test_tokens(text: str, unit: Unit, wanted: list[str]) -> None:
    """Letters, marks and digits between anything else; Hangul, Han and kana by the character, or not."""
    assert tokens(text, unit) == wanted


def test_a_hash_is_of_the_word_alone() -> None:
    """Its place, its neighbours and its case make no difference; another word has another hash."""
    found = tokenize(["Fox one FOX", "", "two 토끼 fox", "토 foxo xof fo x"])
    fox = found.hashes[0]
    assert (found.hashes == fox).tolist() == [True, False, True, False, False, False, True] + [False] * 5
    assert found.rows.tolist() == [0, 3, 3, 7, 12]
    assert len(np.unique(found.hashes)) == 9


def test_a_hash_is_the_same_in_another_process() -> None:
    """Signatures are compared within a run, but what is kept may not depend on Python's random string hashes."""
    code = "from filters.shingles import tokenize; print(tokenize(['토끼 fox']).hashes.tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tokenize(["토끼 fox"]).hashes.tolist())


def test_every_token_stands_in_as_many_shingles_as_a_shingle_has_tokens() -> None:
    """A text of N tokens has N + 1 shingles; changing any one changes n of them."""
    words = [f"w{n}" for n in range(12)]
    texts = [" ".join([*words[:n], "x", *words[n + 1 :]]) for n in range(12)]
    grams, rows = shingles(tokenize([" ".join(words), *texts]), 3, 5)
    assert np.diff(rows).tolist() == [13] * 13
    first = set(grams[: rows[1]].tolist())
    assert all(len(first & set(grams[a:b].tolist())) == 10 for a, b in itertools.pairwise(rows[1:]))


def test_mixed_texts_take_the_length_of_each_token() -> None:
    """Shingles of three words and of five syllables in one text: one changed syllable of ten costs five."""
    one, other = "가나다라마바사아자차 one two three four", "가나다라파바사아자차 one two three four"
    grams, rows = shingles(tokenize([one, other]), 3, 5)
    assert len(set(grams[: rows[1]].tolist()) & set(grams[rows[1] :].tolist())) == 10


def test_runs_of_n() -> None:
    """N - n + 1 runs, equal where the tokens are; none of a shorter text."""
    found = tokenize(["a b c d a b c"]).hashes
    grams = ngrams(found, 3)
    assert len(grams) == 5 and grams[0] == grams[4] and len(set(grams.tolist())) == 4
    assert len(ngrams(found, 8)) == 0


def test_a_very_long_text_is_read_as_far_as_its_first_million_characters() -> None:
    """20 MB cost no more memory than one."""
    found = tokenize(["word " * 4_000_000, "short"])
    assert np.diff(found.rows).tolist() == [200_000, 1]


def test_batches_keep_parts_together() -> None:
    """No batch ends within a row of two texts, however long they are."""
    given = ["x" * 200_000 if n % 7 == 0 else "y" for n in range(400)]
    made = list(batches(given, parts=2))
    assert [t for batch in made for t in batch] == given
    assert all(len(batch) % 2 == 0 for batch in made)
    assert max(map(len, made)) <= 128
