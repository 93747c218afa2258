"""Languages of a text, and languages that a prompt asks for by name.

CLD2 (pycld2, whose wheel holds its tables) was chosen by measurement beside cld3, fastText's small model, py3langid,
ELD, heliport and lingua: 3 to 50 microseconds a text and 14 MB on disk, and it alone says which share of a text is in
which language, and says nothing where it cannot tell.
"""

from functools import cache, lru_cache

from filters.text import prose
from filters.wordlist import WordList

WINDOW = 4000  # characters of a text that are read
FEWEST_BYTES, FEWEST_RARE = 32, 200  # of text; below that a language is not told, unless it has its own script
# Danish and Slovak stay out: lists of names and bits of code are taken for them.
COMMON = {
    "ar", "bg", "bn", "cs", "de", "en", "es", "fa", "fi", "fr", "hi", "hu", "id", "it", "nl", "pl", "pt", "ro", "ru",
    "sv", "ta", "tr", "uk", "ur", "vi",
}  # fmt: skip
MOST = 0.6  # share of a text that has to be told for the text to be
OWN_SCRIPT = {"ko", "ja", "zh", "th", "el", "he", "hy", "ka"}
# Close relatives that are taken for one another in short texts; each group goes by its first name.
_KIN = {
    "iw": "he",
    "jw": "jv",
    "sco": "en",
    "zh-Hant": "zh",
    "nn": "no",
    "nb": "no",
    "gl": "pt",
    "ms": "id",
    "bs": "hr",
    "sr": "hr",
}
_SCRIPTS = {
    "ko": ("Hangul",), "ja": ("Hiragana", "Katakana", "Han"), "zh": ("Han",), "el": ("Greek",), "th": ("Thai",),
    "he": ("Hebrew",), "yi": ("Hebrew",), "hi": ("Devanagari",), "mr": ("Devanagari",), "ne": ("Devanagari",),
    "sa": ("Devanagari",), "bn": ("Bengali",), "ta": ("Tamil",), "te": ("Telugu",), "kn": ("Kannada",),
    "ka": ("Georgian",), "hy": ("Armenian",), "am": ("Ethiopic",), "km": ("Khmer",), "lo": ("Lao",),
    "my": ("Myanmar",), "si": ("Sinhala",), "bo": ("Tibetan",), "gu": ("Gujarati",), "ml": ("Malayalam",),
    "pa": ("Gurmukhi",), **dict.fromkeys(("ar", "fa", "ur", "ps", "ug"), ("Arabic",)),
    **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "kk", "ky", "mn", "tg", "tt", "hr"), ("Cyrillic", "Latin")),
}  # fmt: skip
# What prompts call languages, beside their English names; one language a line.
_NAMES = """
en 영어 영문 英語 英语
ko 한국어 한글 국문 우리말 조선말 韓国語 韩语
ja 일본어 일어 가나 日本語 日语 kanji hiragana katakana
zh 중국어 한자 한문 中国語 中文 汉语 漢字 mandarin cantonese pinyin
fr 프랑스어 불어 フランス語 法语 français
de 독일어 ドイツ語 德语 deutsch
es 스페인어 スペイン語 西班牙语 español castilian
it 이탈리아어 イタリア語 italiano
pt 포르투갈어 ポルトガル語 português
ru 러시아어 ロシア語 俄语 русский
vi 베트남어 월남어 ベトナム語
th 태국어 タイ語
id 인도네시아어 말레이어 bahasa
ar 아랍어 アラビア語
hi 힌디어
tr 터키어 튀르키예어
nl 네덜란드어
sv 스웨덴어
pl 폴란드어
el 그리스어 희랍어
la 라틴어
uk 우크라이나어
mn 몽골어
he 히브리어
fa 페르시아어 farsi
"""
SCRIPTS = tuple(sorted({script for scripts in _SCRIPTS.values() for script in scripts} | {"Latin"}))


def known() -> frozenset[str]:
    """The codes that can be asked for."""
    return frozenset(_codes().values())


def related(code: str) -> str:
    """The name under which a language is told apart."""
    return _KIN.get(code, code)


@lru_cache(maxsize=4)
def shares(text: str) -> dict[str, float]:
    """Language code: its share of the text, code and addresses left out. Empty where it cannot be told."""
    reliable, size, found = _detect(prose(text[:WINDOW]))
    told: dict[str, float] = {}
    for _, code, percent, _ in found:
        language = related(code)
        fewest = 0 if language in OWN_SCRIPT else FEWEST_BYTES if language in COMMON else FEWEST_RARE
        if code != "un" and percent and size >= fewest:
            told[language] = told.get(language, 0.0) + percent / 100
    return told if reliable and sum(told.values()) >= MOST else {}


def _detect(text: str) -> tuple[bool, int, tuple[tuple[str, str, int, float], ...]]:
    import pycld2

    try:
        return pycld2.detect(text)  # type: ignore[no-any-return]
    except (pycld2.error, UnicodeEncodeError):  # control characters and lone surrogates
        printable = "".join(c if c.isprintable() else " " for c in text)
    try:
        return pycld2.detect(printable)  # type: ignore[no-any-return]
    except (pycld2.error, UnicodeEncodeError):
        return False, 0, ()


def named(text: str) -> set[str]:
    """The languages that a text names: `in French`, `영어로`."""
    words, codes = _names()
    return {codes[name] for name in words.found(text)}


def scripts(code: str) -> tuple[str, ...]:
    """The scripts a language is written in."""
    return _SCRIPTS.get(code, ("Latin",))


@cache
def _codes() -> dict[str, str]:
    import pycld2

    left_out = ("Unknown", "TG_UNKNOWN_LANGUAGE", "Ignore", "X_")
    return {
        name.casefold().replace("_", " "): related(code)
        for name, code in pycld2.LANGUAGES
        if not name.startswith(left_out) and len(code) <= 3
    }


@cache
def _names() -> tuple[WordList, dict[str, str]]:
    lines = (line.split() for line in _NAMES.strip().splitlines())
    codes = _codes() | {name: related(code) for code, *names in lines for name in names}
    return WordList(codes), codes
