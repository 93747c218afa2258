"""How filters read texts."""

import sys

import regex
from hypothesis import given
from hypothesis import strategies as st

from filters.text import normal, prose, words

_HAN = r"\p{Han}\p{Hiragana}\p{Katakana}"
SLOW = regex.compile(rf"[{_HAN}]|(?:(?![{_HAN}])[\p{{L}}\p{{M}}\p{{N}}])+")


@given(st.text())
def test_words_are_the_same_by_the_quick_way(text: str) -> None:
    """The quick ways for ASCII and for text without Han find what the full pattern finds."""
    assert words(text) == SLOW.findall(text)


def test_every_character_is_the_same_by_the_quick_way() -> None:
    """No character of Unicode is a letter to one way and none to the other."""
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        assert words(char) == SLOW.findall(char), hex(code)


@given(st.text())
def test_normal_is_settled(text: str) -> None:
    """What is normal holds no double or outer white space."""
    folded = normal(text)
    assert "  " not in folded
    assert folded == folded.strip()


def test_prose_leaves_code_out() -> None:
    """Code in back-ticks, closed or cut off, displayed formulas and addresses are no prose."""
    text = "See `x` at https://a.b/c?d and $$e = f$$ now. ```py\ng\n``` Then ```h"
    assert prose(text).split() == ["See", "at", "and", "now.", "Then"]
    assert prose("plain") == "plain"
