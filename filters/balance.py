"""Brackets and delimiters that stay open: in fenced code, by its own language's tokens, and in LaTeX."""

from collections.abc import Iterator

import regex

from filters.markup import Block, prose

_PAIRS = {")": "(", "]": "[", "}": "{"}
_NAMES = {"py": "python", "python3": "python", "js": "javascript", "ts": "typescript", "c++": "cpp", "golang": "go"}
# Languages whose brackets pair; in a shell `case`, a transcript or a diff they need not.
_PAIRED = frozenset({
    "c", "cpp", "csharp", "css", "dart", "go", "graphql", "groovy", "haskell", "java", "javascript", "json",
    "julia", "kotlin", "lua", "php", "python", "r", "ruby", "rust", "scala", "scss", "solidity", "sql", "swift",
    "typescript",
})  # fmt: skip


def open_brackets(block: Block) -> str:
    """What is open or closed too often in a code block whose language is known; "" where nothing is.

    Only code that goes down to its own end is judged: an ellipsis says that a part was left out.
    """
    language = _NAMES.get(block.language, block.language)
    if language in ("javascript", "typescript") and ("</" in block.code or "/>" in block.code):
        return ""  # JSX: an apostrophe in its text begins no string
    if (
        language not in _PAIRED
        or "..." in block.code
        or "…" in block.code
        or not any(c in block.code for c in "()[]{}")
    ):
        return ""
    opened: list[tuple[str, int]] = []
    for position, mark in _punctuation(language, block.code):
        if mark in _PAIRS.values():
            opened.append((mark, position))
        elif not opened or opened.pop()[0] != _PAIRS[mark]:
            return f"{mark!r} closes nothing in line {_line(block.code, position)} of the {language} block"
    if opened:
        mark, position = opened[-1]
        return f"{mark!r} stays open from line {_line(block.code, position)} of the {language} block"
    return ""


def _punctuation(language: str, code: str) -> Iterator[tuple[int, str]]:
    """The brackets of a program with their places; those in strings and comments left out."""
    from pygments.lexers import get_lexer_by_name
    from pygments.token import Comment, String, is_token_subtype

    for position, token, value in get_lexer_by_name(language).get_tokens_unprocessed(code):
        quoted = is_token_subtype(token, String) and not is_token_subtype(token, String.Interpol)
        if not quoted and not is_token_subtype(token, Comment):
            yield from ((position + n, mark) for n, mark in enumerate(value) if mark in "()[]{}")


def _line(code: str, position: int) -> int:
    return code.count("\n", 0, position) + 1


_MATHS = regex.compile(r"\\(?:begin|end)\s*\{([A-Za-z*]+)\}|(?<!\\)(?:\\\\){0,8}+\\([\[\]()])|(?<!\\)\$\$")
_CLOSES = {")": "(", "]": "["}


def open_maths(text: str) -> str:
    r"""The LaTeX delimiter or environment (`\[`, `\(`, `$$`, `\begin`) that stays open; "" where none does."""
    if "$$" not in text and "\\" not in text:
        return ""
    opened: list[str] = []
    text = prose(text)
    for match in _MATHS.finditer(text if text.count("$$") > 1 else text.replace("$$", "  ")):
        written = match[0].lstrip("\\") if match[2] else match[0]
        if written == "$$" and opened and opened[-1] == "$$":
            opened.pop()
        elif match[0].startswith("\\end") or written in _CLOSES:
            wanted = f"\\begin{{{match[1]}}}" if match[1] else f"\\{_CLOSES[written]}"
            if not opened or opened.pop().replace(" ", "") != wanted:
                return f"{match[0]} closes nothing"
        else:
            opened.append(match[0] if match[1] else (f"\\{written}" if match[2] else "$$"))
    return f"{opened[-1]} stays open" if opened else ""
