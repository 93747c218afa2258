"""How filters read texts: one normal form, one notion of a word.

Both are asked by several rules for the same text in turn, so the last few answers are remembered.
"""

import re
import unicodedata
from functools import lru_cache

import regex

_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]|(?:(?![\p{Han}\p{Hiragana}\p{Katakana}])[\p{L}\p{M}\p{N}])+")
# Where a text holds no Han, no kana and no combining mark, a run of letters and digits is a word; `re` finds
# those three times as fast. The ranges are Latin, Greek, Cyrillic, Hangul, punctuation, symbols and emoji.
_OTHER = re.compile(
    "[^\x00-\u02ff\u0370-\u0482\u048a-\u0530\u1e00-\u208e\u20a0-\u20cf\u2100-\u2bff\u3000-\u3004\u3008-\u3020"
    "\uac00-\ud7a3\uff01-\uff5e\U0001f000-\U0001f1ff\U0001f300-\U0001faff]"
)
_QUOTED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+|\$\$.*?\$\$", re.DOTALL)
_RUN = re.compile(r"[^\W_]+")
_ASCII_MARKS = str.maketrans(dict.fromkeys((c for c in map(chr, range(128)) if not c.isalnum()), " "))


@lru_cache(maxsize=4)
def normal(text: str) -> str:
    """Compatibility form (NFKC), case folded, every run of white space one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def spaced(text: str) -> bool:
    """Whether a text holds no Han, no kana and no combining mark."""
    return _OTHER.search(text) is None


def words(text: str) -> list[str]:
    """Words of a text: runs of letters and digits; Han and kana, written without spaces, by the character."""
    if text.isascii():
        return text.translate(_ASCII_MARKS).split()
    return (_RUN if spaced(text) else _WORD).findall(text)


@lru_cache(maxsize=4)
def folded_words(text: str) -> tuple[str, ...]:
    """Words of the normal form."""
    return tuple(words(normal(text)))


def prose(text: str) -> str:
    """The text without code in back-ticks, displayed formulas and addresses."""
    return _QUOTED.sub(" ", text) if "`" in text or "://" in text or "$$" in text else text
