"""The final answer of a worked solution, in the form in which two are compared."""

from collections.abc import Callable
from decimal import Decimal
from typing import Literal

import regex

from filters.text import normal

Check = Literal["number", "choice", "exact"]
WHAT: dict[Check, str] = {"number": "number", "choice": "label of a choice", "exact": "text"}

_NUMBER = regex.compile(r"(?<!\d)[-\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_CIRCLED = regex.compile(r"[①-⑳]")  # how Korean examinations number their choices
_LABEL = regex.compile(r"\s*[(\[*]*([A-Za-z])[)\]*]*(?:[.:)\]]|\s*$)")  # "B", "(b)", "B. Paris"
_LETTER = regex.compile(r"(?<![\p{L}\p{N}'])([A-Z])(?![\p{L}\p{N}'])(?!\s+\p{Ll})")  # "A" of "A dog" is none
_NUMBERED = regex.compile(r"([①-⑳])|(?<!\d)(\d{1,2})\s*번|^\W*(\d{1,2})\W*$")
# What announces a final answer: GSM8K's mark, LaTeX's box, and words.
_ANNOUNCED = regex.compile(
    r"\#{4}\s | \\boxed\s*\{ | \b(?:final\s+)?(?:answer|choice|option)\b[\s*_]*(?:is|:|=)[\s:*_]* | (?:정답"
    r"|답)[\s*]*(?:은|이|:)[\s:*]*",
    regex.VERBOSE | regex.IGNORECASE,
)
_STOP = regex.compile(r"[.!?](?=\s|$)|\n")


def final_of(check: Check, text: str) -> str:
    """The final answer in a text, in the form in which two are compared; "" where there is none.

    Where words, `####` or a LaTeX box announce it, what the last of them announces; else the last one in the text.
    """
    if check == "exact":
        return _exact(text)
    read = _READ[check]
    announced = [read(_STOP.split(text[mark.end() :], 1)[0], True) for mark in _ANNOUNCED.finditer(text)]
    return next((final for final in reversed(announced) if final), "") or read(text, False)


def _number(text: str, announced: bool) -> str:
    """The last number, as GSM8K is scored (Cobbe et al. 2021, arXiv 2110.14168); the first after an announcement."""
    text = _CIRCLED.sub(lambda mark: normal(mark[0]), text)
    found = _NUMBER.findall(text.rpartition("=")[2] if announced else text)
    if not found:
        return ""
    value = Decimal(found[0 if announced else -1].replace(",", "").replace("\u2212", "-")) + 0  # no negative zero
    return f"{value.normalize():f}"


def _choice(text: str, announced: bool) -> str:
    if label := _LABEL.match(text):
        return str(label[1]).upper()
    found = _LETTER.findall(text)
    if found:
        return str(found[0 if announced else -1])
    numbers = [normal(next(filter(None, groups))) for groups in _NUMBERED.findall(text)]
    return numbers[0 if announced else -1] if numbers else ""


def _exact(text: str) -> str:
    return normal(text).strip(" .!?。\"'`*")


_READ: dict[Check, Callable[[str, bool], str]] = {"number": _number, "choice": _choice}
