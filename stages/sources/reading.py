"""Files read as documents: Markdown, HTML, plain text and PDF become a title and blocks (`chunks.Block`)."""

import codecs
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import regex
import yaml

from pipeline.errors import UsageError
from stages.sources.chunks import Block, Kind

FRONT = regex.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", regex.DOTALL)
ANCHOR = regex.compile(r"\s*(?:\{#[^}]*\}|\{/\*.*\*/\}|\[\[[^\]]*\]\])\s*$")
MDX = regex.compile(r"(?:import|export)\s.*|\{/\*.*\*/\}", regex.DOTALL)
TAG = regex.compile(r"</?[A-Za-z][\w.]*(?:\s[^<>]{0,200})?/?>")  # longer ones carry text in their attributes
UNDERLINE = regex.compile(r"([^\w\s])\1{2,}")
KINDS: dict[str, Kind] = {
    "heading_open": "heading", "bullet_list_open": "list", "ordered_list_open": "list", "table_open": "table",
    "fence": "code", "code_block": "code", "paragraph_open": "text", "blockquote_open": "text", "html_block": "text",
}  # fmt: skip
ASIDE = "script, style, noscript, template, nav, aside, footer, form, svg, iframe, button, [hidden], a.headerlink"
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class UnreadableFile(Exception):  # noqa: N818  (an outcome, not a fault)
    """A file that cannot be read as what its suffix says."""


class Document(NamedTuple):
    """A document's title ("" where it has none) and its blocks in order."""

    title: str
    blocks: list[Block]


def read(file: Path) -> Document:
    """Read one file. Raises UnreadableFile, or UsageError where a library for its format is not installed."""
    try:
        return READERS[file.suffix.lower()](file)
    except OSError as error:
        raise UnreadableFile(error.strerror or str(error)) from error
    except RecursionError as error:
        raise UnreadableFile("its tags are nested too deeply") from error
    except ImportError as error:
        raise UsageError(f"{file}: {error.name} is not installed", hint="pip install 'pipeline[docs]'") from error


def decoded(data: bytes) -> str:
    """Text in UTF-8, after its byte order mark, or in the encoding it looks most like (EUC-KR and CP949 among them)."""
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        beyond_ascii = [sign for sign in data.decode("utf-8", errors="replace") if sign > "\x7f"]
        if beyond_ascii.count("\ufffd") * 10 < len(beyond_ascii):  # no other encoding looks so much like UTF-8
            raise UnreadableFile(f"it is UTF-8, but its byte {error.start} is wrong") from error
        from charset_normalizer import from_bytes

        best = from_bytes(data).best()
        text = data.decode(best.encoding, errors="replace") if best is not None else "\0"
    if "\0" in text:
        raise UnreadableFile("it is not text")
    return text


def _lines(file: Path) -> str:
    return decoded(file.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")


def _markdown(file: Path) -> Document:
    text = _lines(file)
    front = FRONT.match(text)
    try:
        about: Any = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:  # a template's placeholders, say; it is front matter all the same
        about = {}
    if front and isinstance(about, dict):
        text = text[front.end() :]
    blocks = list(markdown(_without_tags(text)))
    nothing = [TAG, MDX] if file.suffix.lower() == ".mdx" else [TAG]
    blocks = [b for b in blocks if b.kind != "text" or not any(one.fullmatch(b.text) for one in nothing)]
    title = about.get("title") if isinstance(about, dict) else None
    return Document(title if isinstance(title, str) else _first_heading(blocks), blocks)


def _first_heading(blocks: list[Block]) -> str:
    return next((block.headings[0] for block in blocks if block.kind == "heading" and len(block.headings) == 1), "")


def markdown(text: str) -> Iterator[Block]:
    """The blocks of a Markdown text (CommonMark with tables), as they are written."""
    from markdown_it import MarkdownIt

    lines, path = text.split("\n"), _Path()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, inner in itertools.zip_longest(tokens, tokens[1:]):
        if token.level or token.map is None or token.type not in KINDS:
            continue
        kind, source = KINDS[token.type], "\n".join(lines[slice(*token.map)]).strip("\n").rstrip()
        if kind == "heading" and inner is not None:
            name = ANCHOR.sub("", inner.content)
            path.enter(int(token.tag[1:]), name)
            source = f"{token.markup if token.markup.startswith('#') else '#' * int(token.tag[1:])} {name}"
        if source.strip():
            yield Block(source, path.names, kind)


class _Path:
    """The headings above a place."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, name: str) -> None:
        self._open = [*(one for one in self._open if one[0] < level), (level, name)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name in self._open if name)


def _without_tags(text: str) -> str:
    """Markdown whose blocks of HTML (or JSX) are Markdown too: comments and bare tags gone, their text kept."""
    from markdown_it import MarkdownIt

    lines = text.split("\n")
    for token in reversed(MarkdownIt("commonmark").enable("table").parse(text)):
        if token.type == "html_block" and token.map is not None and not token.level:
            lines[slice(*token.map)] = ["", _from_html(token.content), ""]
    return "\n".join(lines)


def _from_html(source: str) -> str:
    soup = _soup(source)
    for tag in soup.select(ASIDE):
        tag.decompose()
    return _converted(soup)


def _soup(source: str) -> Any:
    from bs4 import BeautifulSoup, UnusualUsageWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusualUsageWarning)  # XHTML, or a text that looks like a file's name
        return BeautifulSoup(source, "html.parser")


def _converted(soup: Any) -> str:
    from markdownify import MarkdownConverter

    to_markdown = MarkdownConverter(
        heading_style="atx",
        bullets="-",
        strip=["a", "img"],
        table_infer_header=True,
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
    )
    return regex.sub(r"\n{3,}", "\n\n", to_markdown.convert_soup(soup)).strip()


def _html(file: Path) -> Document:
    """The main part of a page: navigation, scripts and the like are left out."""
    soup = _soup(_lines(file))
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    articles = soup.find_all("article")
    main = soup.select_one("main, [role=main]") or (articles[0] if len(articles) == 1 else soup.body or soup)
    for tag in main.select(f"{ASIDE}, head, title, header:not(:has(h1))"):
        tag.decompose()
    blocks = list(markdown(_converted(main)))
    return Document(title or _first_heading(blocks), blocks)


def _plain(file: Path) -> Document:
    """Paragraphs between blank lines. A line underlined with punctuation is a heading, as in reStructuredText."""
    blocks, path, levels = [], _Path(), list[str]()
    for paragraph in regex.split(r"\n(?:[ \t]*\n)+|\f", _lines(file).strip("\n")):
        lines = paragraph.rstrip().split("\n")
        while len(lines) > 1 and (at := _underlined(lines)):
            name, line = lines[at - 1].strip(), lines[at].strip()
            style = line[0] * (1 + (at == 2))  # a line above as well is another level
            levels += [] if style in levels else [style]
            path.enter(1 + levels.index(style), name)
            blocks.append(Block(name, path.names, "heading"))
            lines = lines[at + 1 :]
        if text := "\n".join(lines).strip("\n"):
            blocks.append(Block(text, path.names))
    return Document(_first_heading(blocks), blocks)


def _underlined(lines: list[str]) -> int:
    """Which line underlines a heading at the top of a paragraph; 0 where there is none."""
    for at in (1, 2):
        over = at == 1 or lines[0].strip() == lines[-1 if len(lines) < 3 else 2].strip()
        if len(lines) > at and over and UNDERLINE.fullmatch(lines[at].strip()):
            name = lines[at - 1].strip()
            if name and not UNDERLINE.fullmatch(name) and len(lines[at].strip()) >= len(name) // 2:
                return at
    return 0


def _pdf(file: Path) -> Document:
    """The text layer of every page without running heads; the outline's entries are the headings."""
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(file) as pdf:
            places = [(entry.get_dest(), entry.level, entry.get_title()) for entry in pdf.get_toc()]
            outline = [(dest.get_index(), level, name) for dest, level, name in places if dest is not None]
            title = pdf.get_metadata_dict().get("Title", "")
            pages = [_page_lines(page.get_textpage().get_text_bounded()) for page in pdf]
    except pypdfium2.PdfiumError as error:
        raise UnreadableFile(f"it is no PDF, is damaged, or wants a password ({error})") from error
    if not any(pages):
        raise UnreadableFile("it holds no text: scanned pages need OCR first")
    blocks, path = [], _Path()
    for number, lines in enumerate(_without_running_heads(pages)):
        for _, level, name in (entry for entry in outline if entry[0] == number):
            path.enter(level, " ".join(name.split()))
        if lines:
            blocks.append(Block("\n".join(lines), path.names))
    return Document("" if title == "untitled" else title, blocks)


def _page_lines(text: str) -> list[str]:
    joined = regex.sub(r"\ufffe\s*", "", text)  # PDFium's mark for a word that was hyphenated at the end of a line
    return [line.strip() for line in joined.splitlines() if line.strip()]


def _without_running_heads(pages: list[list[str]]) -> Iterator[list[str]]:
    """Pages without first and last lines that, numbers aside, stand on most of them."""

    def bare(line: str) -> str:
        return regex.sub(r"\d+", "0", line)

    often = Counter(bare(line) for lines in pages for line in {*lines[:1], *lines[-1:]})
    running = {line for line, times in often.items() if times > max(2, len(pages) // 2)}
    for lines in pages:
        start = int(bool(lines) and bare(lines[0]) in running)
        stop = len(lines) - int(len(lines) > start and bare(lines[-1]) in running)
        yield lines[start:stop]


READERS: dict[str, Callable[[Path], Document]] = {
    **dict.fromkeys((".md", ".markdown", ".mdx"), _markdown),
    **dict.fromkeys((".html", ".htm"), _html),
    **dict.fromkeys((".txt", ".rst"), _plain),
    ".pdf": _pdf,
}
