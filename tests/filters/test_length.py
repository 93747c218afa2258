"""Length: characters between two bounds."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from filters.length import Length
from tests.helpers import record


def test_bounds_are_inclusive() -> None:
    """An answer exactly at a bound passes; one character more or less does not."""
    rule = Length(min_chars=3, max_chars=5)
    verdicts = {n: rule.judge(record("x" * n)).reason for n in (2, 3, 5, 6)}
    assert verdicts == {2: "too_short", 3: "", 5: "", 6: "too_long"}


def test_the_number_is_reported() -> None:
    """The check carries the measured length, passed or not, and says the bound it missed."""
    check = Length(min_chars=10).judge(record("four"))
    assert (check.value, check.detail) == (4, "4 characters, under 10")
    assert Length().judge(record("four")).value == 4


def test_a_hangul_syllable_is_one_character() -> None:
    """Korean counts by syllables, whether they come composed or as separate jamo."""
    text = "토끼가 달을 보았어요."
    decomposed = unicodedata.normalize("NFD", text)
    assert len(decomposed) > len(text)
    assert Length().judge(record(decomposed)).value == Length().judge(record(text)).value == 12


def test_white_space_at_the_ends_does_not_count() -> None:
    """Padding cannot carry an answer over the bound."""
    assert Length(min_chars=5).judge(record("  fox \n\n")).reason == "too_short"


def test_no_upper_bound_by_default() -> None:
    """Without `max_chars` an answer of any size passes."""
    assert Length().judge(record("가" * 100_000)).passed


def test_crossed_bounds_are_refused() -> None:
    """`max_chars` below `min_chars` would drop everything, so the plan does not load."""
    with pytest.raises(ValidationError, match="max_chars is 5, below min_chars 10"):
        Length(min_chars=10, max_chars=5)


def test_words_are_a_unit() -> None:
    """Words are runs of letters and digits; Han and kana count by the character."""
    rule = Length(min_words=3, max_words=5)
    texts = ("two words", "토끼가 달을 보았어요.", "one two three four five six")
    assert [rule.judge(record(text)).reason for text in texts] == [
        "too_short", "", "too_long",
    ]  # fmt: skip
    assert rule.judge(record("月を見た")).value == 4


def test_tokens_of_a_tokenizer_are_a_unit(tmp_path: Path) -> None:
    """Tokens are counted by the tokenizer that the plan names."""
    tokenizers = pytest.importorskip("tokenizers")
    one = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    one.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValidationError, match=r"no tokenizer\.json"):
        Length(max_tokens=3, tokenizer=str(tmp_path))
    one.save(str(tmp_path / "tokenizer.json"))
    rule = Length(max_tokens=3, tokenizer=str(tmp_path))
    assert rule.judge(record("a b a")).value == 3
    assert rule.judge(record("a b, a")).detail == "4 tokens, over 3"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_chars": 1, "max_words": 5}, "bounds in chars and words"),
        ({"max_tokens": 5}, "need a `tokenizer`"),
        ({"min_words": 5, "tokenizer": "x/y"}, "need a `tokenizer`"),
        ({"max_tokens": 5, "tokenizer": "demo:none"}, "no config.json"),
    ],
)
def test_units_do_not_mix(settings: dict[str, Any], said: str) -> None:
    """One rule has one unit, and tokens have a tokenizer that is there."""
    with pytest.raises(ValidationError, match=said):
        Length.model_validate(settings)


def test_the_prompt_can_be_measured() -> None:
    """`on: prompt` counts the prompt, `on: both` each of the two."""
    one = record("a long enough answer", prompt="hm")
    assert Length(min_chars=5, on="prompt").judge(one).reason == "too_short"
    assert Length(min_chars=5, on="both").judge(one).detail == "the prompt: 2 characters, under 5"
    assert Length(min_chars=5).judge(one).passed
