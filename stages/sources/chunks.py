"""Documents cut into chunks: by structure first, by size where structure does not help.

A document is a list of blocks: headings, paragraphs, lists, tables, code. Blocks are packed into chunks in order and
are cut only where one alone is larger than a chunk: a list between items, a table between rows, code between lines,
text between sentences.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import regex

from pipeline.errors import ModelError
from pipeline.models import cached, find, looks_local, offline

Kind = Literal["heading", "text", "list", "table", "code"]
Size = Callable[[str], int]

DENSE = regex.compile(r"[\p{Hangul}\p{Han}\p{Hiragana}\p{Katakana}]")
SENTENCE = regex.compile(r"""(?<=[.!?…。！？]["'”’)\]]?)\s+|\n+""")
ITEM = regex.compile(r"\n+(?=[-*+] |\d+[.)] )")
BETWEEN = 1  # tokens that the blank line between two blocks takes
FENCE = regex.compile(r"(`{3,}|~{3,})")


class Block(NamedTuple):
    """A paragraph, list, table, piece of code or heading, and the headings it stands under (itself too)."""

    text: str
    headings: tuple[str, ...] = ()
    kind: Kind = "text"


class Chunk(NamedTuple):
    """Neighbouring blocks as one text; `headings` is the path that all of it stands under."""

    text: str
    headings: tuple[str, ...]


class _Part(NamedTuple):
    block: Block
    tokens: int


def chunked(blocks: Iterable[Block], limit: int, size: Size) -> Iterator[Chunk]:
    """Chunks of at most `limit` tokens as `size` counts them, in order. Sections that fit together stay together.

    Only what would leave a heading alone at the end of a chunk goes over the limit.
    """
    open_: list[_Part] = []
    for section in _sections(blocks):
        parts = [part for block in section for part in _fitting(block, limit, size)]
        if open_ and _total(open_) + _total(parts) > limit:
            yield from _chunk(open_)
            open_ = []
        *full, open_ = _packed([*open_, *parts], limit)
        for pack in full:
            yield from _chunk(pack)
    yield from _chunk(open_)


def _sections(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Blocks up to the next heading; headings with nothing between them begin one section together."""
    section: list[Block] = []
    for block in blocks:
        if block.kind == "heading" and any(one.kind != "heading" for one in section):
            yield section
            section = []
        section.append(block)
    yield section


def _packed(parts: list[_Part], limit: int) -> list[list[_Part]]:
    """Parts in packs of at most `limit` tokens; a heading goes with what follows it."""
    packs: list[list[_Part]] = [[]]
    for part in parts:
        if packs[-1] and _total(packs[-1]) + part.tokens > limit:
            last = packs[-1]
            body = max((n for n, one in enumerate(last, 1) if one.block.kind != "heading"), default=0)
            if body:
                packs[-1:] = [last[:body], last[body:]]
        packs[-1].append(part)
    return packs


def _total(parts: list[_Part]) -> int:
    return sum(part.tokens for part in parts)


def _chunk(parts: list[_Part]) -> Iterator[Chunk]:
    """The chunk of some parts up to the last that is no heading; none where there are headings only."""
    end = max((n for n, part in enumerate(parts, 1) if part.block.kind != "heading"), default=0)
    paths = [part.block.headings for part in parts[:end] if part.block.kind != "heading"]
    if not paths:
        return
    common = paths[0]
    for path in paths:
        same = (n for n, (one, other) in enumerate(zip(common, path, strict=False)) if one != other)
        common = common[: next(same, min(len(common), len(path)))]
    yield Chunk("\n\n".join(part.block.text for part in parts[:end]), common)


def _fitting(block: Block, limit: int, size: Size) -> list[_Part]:
    """A block as it is, or in pieces where it is larger than a chunk."""
    tokens = size(block.text)
    if tokens <= limit:
        return [_Part(block, tokens + BETWEEN)]
    head, parts, glue, tail = _anatomy(block)
    room = limit - size(head) - size(tail) - 2 * BETWEEN
    if room < limit // 2:  # what every piece would say again is most of it
        head, tail, room = "", "", limit
    small = [_Part(Block(piece), size(piece + glue)) for part in parts for piece in _pieces(part, room, size)]
    inner = (glue.join(part.block.text for part in pack).strip("\n") for pack in _packed(small, room))
    texts = ["\n".join(text for text in (head, body, tail) if text) for body in inner if body.strip()]
    return [_Part(block._replace(text=text), size(text) + BETWEEN) for text in texts]


def _anatomy(block: Block) -> tuple[str, list[str], str, str]:
    """Where a block may be cut: what every piece begins with, its parts, what joins them, what ends every piece."""
    lines = block.text.split("\n")
    fence = FENCE.match(block.text)
    if block.kind == "table" and len(lines) > 2:
        return "\n".join(lines[:2]), lines[2:], "\n", ""
    if block.kind == "code" and fence and len(lines) > 2:
        return lines[0], lines[1:-1] if FENCE.match(lines[-1]) else lines[1:], "\n", fence.group()
    if block.kind in ("code", "table"):
        return "", lines, "\n", ""
    if block.kind == "list":
        return "", ITEM.split(block.text), "\n", ""
    return "", SENTENCE.split(block.text), " ", ""


def _pieces(text: str, limit: int, size: Size) -> list[str]:
    """A text in sentences, then in halves at a space, until each piece fits."""
    if size(text) <= limit:
        return [text]
    sentences = [one for one in SENTENCE.split(text) if one]
    if len(sentences) > 1:
        return [piece for one in sentences for piece in _pieces(one, limit, size)]
    if len(text) < 2:
        return [text]
    middle = len(text) // 2
    at = text.rfind(" ", 1, middle)
    cut = at if at > 0 else middle
    return [piece for half in (text[:cut], text[cut:].lstrip()) if half for piece in _pieces(half, limit, size)]


def estimated(text: str) -> int:
    """Tokens as most tokenizers count, a little more rather than less: one a Korean, Chinese or Japanese character.

    Four characters of other scripts make one token.
    """
    dense = len(DENSE.findall(text))
    return dense + (len(text) - dense + 3) // 4


@cache
def counter(tokenizer: str) -> Size:
    """What counts a text's tokens; an estimate where no tokenizer is named. Raises ModelError."""
    if not tokenizer:
        return estimated
    from tokenizers import Tokenizer

    counts = Tokenizer.from_file(str(_tokenizer_file(tokenizer)))
    counts.no_truncation()
    return lambda text: len(counts.encode(text, add_special_tokens=False).ids)


def _tokenizer_file(name: str) -> Path:
    """A model's `tokenizer.json`, without its weights."""
    model = find(name)
    folder = Path(model.where) if model.local else cached(name)
    if folder is not None and (folder / "tokenizer.json").is_file():
        return folder / "tokenizer.json"
    if model.local or looks_local(name):
        raise ModelError(f"tokenizer {name}: no tokenizer.json in {folder}")
    if offline():
        raise ModelError(f"tokenizer {name} is not in the local cache and HF_HUB_OFFLINE is set")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "tokenizer.json"))
    except (OSError, ValueError) as error:  # huggingface_hub's own errors are among these
        why = str(error).strip().splitlines()[0]
        raise ModelError(f"tokenizer {name} cannot be fetched from the Hub: {why}") from error
