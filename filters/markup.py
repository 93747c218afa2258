"""Answers are Markdown: where their code, their quotations and their sentences are."""

from typing import NamedTuple

import regex

_FENCE = regex.compile(
    r"^[ \t>]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?(`{3,}|~{3}(?!~))[ \t]*([^\s`]*)([^`\n]*)$", regex.MULTILINE
)
_INLINE = regex.compile(r"(`{1,2})(?!`)(?:[^`\n]|\n(?!\s*\n)){1,400}?\1(?!`)")
_PRE = regex.compile(r"<(pre|code)\b[^>]{0,200}>.{0,4000}?</\1>", regex.DOTALL | regex.IGNORECASE)
_QUOTED = regex.compile(
    r'"[^"\n]{1,600}"|“[^”]{1,600}”|‘[^’\n]{1,600}’(?!\p{L})|「[^」]{1,600}」|『[^』]{1,600}』|^>.*$', regex.MULTILINE
)
_END = regex.compile(r"[.!?…][\"'”’)\]*_]{0,3}\s+|[。！？][”」』）]?\s*|\n+")


class Block(NamedTuple):
    """A fenced code block: where it starts and ends in the text, its language as written, and what it holds."""

    start: int
    end: int
    language: str
    code: str
    closed: bool


def blocks(text: str) -> list[Block]:
    """The fenced code blocks of a Markdown text, in order; the last may be unclosed."""
    if "```" not in text and "~~~" not in text:
        return []
    found: list[Block] = []
    opened: regex.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2]:
            body = text[opened.end() + 1 : fence.start()]
            found.append(Block(opened.start(), fence.end(), opened[2].lower(), body, True))
            opened = None
    if opened is not None:
        found.append(Block(opened.start(), len(text), opened[2].lower(), text[opened.end() + 1 :], False))
    return found


def prose(text: str) -> str:
    """The text with its code, fenced, in backticks or in `<code>`, replaced by spaces; positions stay."""
    for block in blocks(text):
        text = text[: block.start] + " " * (block.end - block.start) + text[block.end :]
    if "`" in text:
        text = _INLINE.sub(_blank, text)
    if "<pre" in text or "<code" in text:
        text = _PRE.sub(_blank, text)
    return text


def own_words(text: str) -> str:
    """What the author says in their own person: without code and quotations; straight apostrophes.

    A text that is one quotation as a whole says what it quotes.
    """
    text = prose(text).strip()
    if len(text) > 1 and text[0] in '"“' and text[-1] in '"”' and not any(c in text[1:-1] for c in '"“”'):
        text = text[1:-1]
    return _QUOTED.sub(_blank, text).replace("’", "'").replace("\u2018", "'")


def sentences(text: str) -> list[str]:
    """Sentences and lines; a full stop, or a line's end, ends one."""
    start, found = 0, []
    for end in _END.finditer(text):
        found.append(text[start : end.end()].strip())
        start = end.end()
    return [sentence for sentence in (*found, text[start:].strip()) if sentence]


def _blank(match: "regex.Match[str]") -> str:
    return " " * len(match[0])
