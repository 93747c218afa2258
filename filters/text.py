"""How filters compare texts."""

import unicodedata

import regex

_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]|(?:(?![\p{Han}\p{Hiragana}\p{Katakana}])[\p{L}\p{M}\p{N}])+")


def normal(text: str) -> str:
    """Compatibility form (NFKC), case folded, every run of white space one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """Words of a text: runs of letters and digits; Han and kana, written without spaces, by the character."""
    return _WORD.findall(text)
