"""Documents become chunks: every format is read, nothing is cut in the middle without need, Korean survives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import console
from pipeline.errors import ModelError, UsageError
from stages.sources import documents
from stages.sources.chunks import Block, chunked, estimated
from stages.sources.documents import Documents
from stages.sources.reading import decoded, markdown, read

DATA = Path(__file__).resolve().parents[3] / "shared/data"
KOREAN = "지식 증류는 큰 모델의 지식을 작은 모델로 옮기는 기술입니다.\n\n국장은 2급 또는 3급으로 임명한다."


def rows(folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """The seeds' fields of everything in a folder."""
    return [fields for fields, _ in Documents(path=folder, **settings).rows(0)]


def one(folder: Path, name: str, content: str | bytes, **settings: Any) -> list[dict[str, Any]]:
    """The seeds' fields of one file."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return rows(folder / name, **settings)


def words(text: str) -> int:
    """A size that is easy to reckon with."""
    return len(text.split())


def cut(text: str, limit: int, size: Callable[[str], int] = words) -> list[str]:
    """The chunks of a Markdown text."""
    return [chunk.text for chunk in chunked(markdown(text), limit, size)]


# Chunks


def test_small_sections_share_a_chunk_and_headings_are_their_common_path() -> None:
    """Neighbours are merged up to the size; the path is what all of a chunk stands under."""
    text = "# Kites\n\n## Parts\n\nTail.\n\n## Wind\n\nLow.\n\n" + "## Flying\n\n" + "far and high " * 10
    first, second = chunked(markdown(text), 40, words)
    assert (first.text, first.headings) == ("# Kites\n\n## Parts\n\nTail.\n\n## Wind\n\nLow.", ("Kites",))
    assert second.text.startswith("## Flying\n\nfar")
    assert second.headings == ("Kites", "Flying")


def test_a_section_that_fits_is_not_torn_apart() -> None:
    """A section that would not fit into what is left of a chunk begins the next one whole."""
    text = "# A\n\n" + "a " * 12 + "\n\n# B\n\nb b b b\n\nb b b b\n"
    assert [chunk.split()[1] for chunk in cut(text, 20)] == ["A", "B"]


def test_a_heading_stays_with_what_follows_it() -> None:
    """No chunk ends with a heading, and none is of headings alone."""
    text = "# A\n\n" + "a " * 17 + "\n\n" + "# B\n\n" + "b " * 19 + "\n\n# The end\n"
    assert [chunk.split()[:2] for chunk in cut(text, 20)] == [["#", "A"], ["#", "B"]]


@pytest.mark.parametrize(
    ("block", "begins", "ends"),
    [
        ("| Wind | Kite |\n| --- | --- |\n" + "| low | delta |\n" * 12, "| Wind | Kite |\n| --- | --- |\n", "|"),
        ("```python\n" + "x = 1\n" * 20 + "```", "```python\nx = 1", "x = 1\n```"),
        ("\n".join(f"- item {n} is here\n  and goes on" for n in range(12)), "- item", "and goes on"),
        ("\n".join(f"{n}. item {n} is here" for n in range(1, 20)), "", "is here"),
        ("This is a sentence. " * 20, "This is", "sentence."),
        ("이것은 문장입니다. " * 20, "이것은", "문장입니다."),
    ],
    ids=["table", "code", "list", "numbers", "sentences", "korean"],
)
def test_what_is_larger_than_a_chunk_is_cut_where_it_may_be(block: str, begins: str, ends: str) -> None:
    """A table between rows under its header again, code between lines inside its fence, lists between items."""
    pieces = cut(block, 24)
    assert len(pieces) > 1
    assert all(piece.startswith(begins) and piece.endswith(ends) and words(piece) <= 24 for piece in pieces)


def test_what_fits_is_never_cut() -> None:
    """Lists, code with blank lines and tables that fit a chunk are whole in one."""
    blocks = ["- one\n\n- two\n  - three", "```\na\n\n\nb\n```", "| a | b |\n| - | - |\n| 1 | 2 |", "> said\n> twice"]
    pieces = cut("\n\n".join(blocks), 16)
    assert all(any(block in piece for piece in pieces) for block in blocks)


texts = st.lists(st.text("abc 가나. \n#-|`1", min_size=1, max_size=60), max_size=12)


@given(texts, st.integers(4, 40))
@settings(deadline=None)
def test_chunks_hold_every_letter_in_order(paragraphs: list[str], limit: int) -> None:
    """Nothing but headings without text and white space is lost, and no chunk is over the limit for its body."""
    blocks = [Block(text, kind="heading" if text.startswith("#") else "text") for text in paragraphs if text.strip()]
    last = max((n for n, block in enumerate(blocks, 1) if block.kind != "heading"), default=0)
    chunks = list(chunked(blocks, limit, estimated))

    def letters(some: list[str]) -> str:
        return "".join("".join(some).split())

    assert letters([chunk.text for chunk in chunks]) == letters([block.text for block in blocks[:last]])
    heads = sum(estimated(block.text) + 1 for block in blocks if block.kind == "heading")
    assert all(estimated(chunk.text) <= limit + heads + 1 for chunk in chunks)


def test_the_estimate_minds_korean() -> None:
    """A Korean character is about a token, of English it takes four."""
    assert estimated("abcd" * 100) == 100
    assert estimated("가" * 100) == 100
    assert estimated("") == 0


def test_sizes_are_measured_with_the_named_tokenizer(tmp_path: Path) -> None:
    """Its tokens count, all of them, and its revision is part of the identity."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(8)  # as embedding models have it: no reason to count no further
    tokenizer.save(str(folder / "tokenizer.json"))
    text = "extraordinarily long words everywhere. " * 40
    assert len(one(tmp_path, "a.txt", text, chunk_tokens=200, tokenizer=str(folder))) == 1
    assert len(one(tmp_path, "a.txt", text, chunk_tokens=200)) > 1
    named = Documents(path=tmp_path / "a.txt", tokenizer=str(folder)).identity()
    (folder / "config.json").write_text('{"changed": 1}')
    from pipeline import models as found

    found._content.cache_clear()
    assert Documents(path=tmp_path / "a.txt", tokenizer=str(folder)).identity() != named


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A model without tokenizer.json says so."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        one(tmp_path, "a.txt", "text", tokenizer=str(tmp_path))


# Formats

PAGE = """---
title: 연 이야기
tags: [a]
---
<!-- Copyright: nobody
reads this -->
import Banner from "./banner"

<Banner
    chapter={1}
/>

# 연 {#kite}

Text with **bold** words and [a link](https://example.org).

<div class="x">
<p>Inside <b>HTML</b>.</p>
</div>

```py
# no heading
x = "<b>"
```

## 꼬리[[tail]]

- long
- red

<table><tr><th>바람</th></tr><tr><td>약함</td></tr></table>
"""


def test_markdown_keeps_its_text_and_loses_what_is_no_text(tmp_path: Path) -> None:
    """Front matter, comments, components and imports are gone; HTML becomes Markdown; code stays as it is."""
    (row,) = one(tmp_path, "kite.mdx", PAGE)
    assert row["title"] == "연 이야기"
    assert (row["headings"], row["path"], row["chunk"]) == (["연"], "kite.mdx", 0)
    assert row["text"] == (
        "# 연\n\nText with **bold** words and [a link](https://example.org).\n\nInside **HTML**.\n\n"
        '```py\n# no heading\nx = "<b>"\n```\n\n## 꼬리\n\n- long\n- red\n\n| 바람 |\n| --- |\n| 약함 |'
    )


def test_a_line_at_the_top_is_not_always_front_matter(tmp_path: Path) -> None:
    """Text between two rules stays; a template's front matter that is no YAML goes."""
    (kept,) = one(tmp_path, "a.md", "---\nJust a line.\n---\n\nMore.")
    assert "Just a line." in kept["text"]
    (gone,) = one(tmp_path, "b.md", "---\ntitle: {{ x }}: y\n---\n\nMore.")
    assert gone["text"] == "More."


def test_html_gives_its_main_text(tmp_path: Path) -> None:
    """Navigation, scripts, styles and hidden parts are gone; structure stays."""
    html = (
        "<html><head><title>Kites &amp; more</title><style>p{}</style></head><body><header>Site</header>"
        "<nav><ul><li>Menu</li></ul></nav><main><header><h1>Kites<a class='headerlink' href='#k'>¶</a></h1></header>"
        "<p>A <b>kite</b> flies on a <a href='/s'>string</a>: 2 * 3 = snake_case.</p><script>alert(1)</script>"
        "<h2>Parts</h2><ul><li>Tail<ul><li>Ribbon</li></ul></li></ul><pre><code>x = 1\n\ny = 2</code></pre>"
        "<table><tr><th>Wind</th><th>Kite</th></tr><tr><td>low</td><td>delta</td></tr></table>"
        "<p hidden>secret</p></main><footer>(c)</footer></body></html>"
    )
    (row,) = one(tmp_path, "a.html", html)
    assert (row["title"], row["headings"]) == ("Kites & more", ["Kites"])
    assert row["text"] == (
        "# Kites\n\nA **kite** flies on a string: 2 * 3 = snake_case.\n\n## Parts\n\n- Tail\n  - Ribbon\n\n"
        "```\nx = 1\n\ny = 2\n```\n\n| Wind | Kite |\n| --- | --- |\n| low | delta |"
    )


def test_a_page_without_a_main_part_is_taken_whole(tmp_path: Path) -> None:
    """The body, less what stands around it, is the text."""
    (row,) = one(tmp_path, "a.htm", "<body><nav>Menu</nav><h1>제목</h1><p>본문입니다.</p><footer>끝</footer></body>")
    assert (row["title"], row["text"]) == ("제목", "# 제목\n\n본문입니다.")


def test_plain_text_has_paragraphs_and_underlined_headings(tmp_path: Path) -> None:
    """As in reStructuredText, a line above and below is another level."""
    text = "=====\nTitle\n=====\n\nIntro\ngoes on.\n\n절\n--\n\nNo heading.\n\nSection\n-------\n    code\n\nEnd.\n"
    document = read_text(tmp_path, "a.rst", text)
    assert document.title == "Title"
    assert [(block.text, block.headings, block.kind) for block in document.blocks] == [
        ("Title", ("Title",), "heading"),
        ("Intro\ngoes on.", ("Title",), "text"),
        ("절\n--", ("Title",), "text"),
        ("No heading.", ("Title",), "text"),
        ("Section", ("Title", "Section"), "heading"),
        ("    code", ("Title", "Section"), "text"),
        ("End.", ("Title", "Section"), "text"),
    ]


def read_text(folder: Path, name: str, text: str) -> Any:
    """A file with this text, read."""
    (folder / name).write_text(text, encoding="utf-8")
    return read(folder / name)


def pdf(pages: list[list[str]], outline: dict[str, int] | None = None) -> bytes:
    """A small PDF with a Korean font that the reader has to know, as Korean documents have it."""
    entries = list((outline or {}).items())
    first = 6 + 2 * len(pages)
    kids = " ".join(f"{6 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {f'/Outlines {first} 0 R' if entries else ''} >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>",
        "<< /Type /Font /Subtype /Type0 /BaseFont /HYSMyeongJo-Medium /Encoding /UniKS-UCS2-H"
        " /DescendantFonts [4 0 R] >>",
        "<< /Type /Font /Subtype /CIDFontType0 /BaseFont /HYSMyeongJo-Medium /FontDescriptor 5 0 R /DW 1000"
        " /CIDSystemInfo << /Registry (Adobe) /Ordering (Korea1) /Supplement 1 >> >>",
        "<< /Type /FontDescriptor /FontName /HYSMyeongJo-Medium /Flags 6 /ItalicAngle 0 /Ascent 800 /Descent -200"
        " /CapHeight 700 /StemV 80 /FontBBox [0 -200 1000 800] >>",
    ]
    for n, lines in enumerate(pages):
        shown = " ".join(f"<{line.encode('utf-16-be').hex()}> Tj 0 -20 Td" for line in lines)
        stream = f"BT /F 12 Tf 72 780 Td {shown} ET" if lines else ""
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {7 + 2 * n} 0 R"
            " /Resources << /Font << /F 3 0 R >> >> >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    objects.append(f"<< /First {first + 1} 0 R /Last {first + len(entries)} 0 R /Count {len(entries)} >>")
    for n, (name, page) in enumerate(entries):
        follows = f"/Next {first + n + 2} 0 R" if n + 1 < len(entries) else ""
        title = "feff" + name.encode("utf-16-be").hex()
        objects.append(f"<< /Title <{title}> /Parent {first} 0 R {follows} /Dest [{6 + 2 * page} 0 R /Fit] >>")
    made, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(made)}\n"
    )
    return made + end.encode() + b"%%EOF"


def test_a_pdf_gives_its_text_under_its_outline(tmp_path: Path) -> None:
    """Korean text is read, running heads and page numbers go, bookmarks are the headings."""
    pages = [["포획심판령", f"제{n}조 본령은 포획사건을 심판한다. ({n}항)", f"{n}"] for n in range(1, 5)]
    (row, *more) = one(tmp_path, "a.pdf", pdf(pages, {"제1장 총칙": 0, "제2장 심판소": 2}), chunk_tokens=50)
    assert row["text"] == "제1조 본령은 포획사건을 심판한다. (1항)\n\n제2조 본령은 포획사건을 심판한다. (2항)"
    assert row["headings"] == ["제1장 총칙"]
    assert [one["headings"] for one in more] == [["제2장 심판소"]]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.pdf", b"%PDF-1.4\nnothing", "no PDF"),
        ("a.pdf", pdf([[], []]), "OCR"),
        ("a.txt", b"\x00\x01\x02\xff\xfe\x00" * 40, "not text"),
        ("a.md", KOREAN.encode()[:4] + KOREAN.encode()[5:], "UTF-8, but its byte 3"),
        ("a.html", b"<b>" * 5000 + b"deep", "too deeply"),
        ("a.md", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not text"),
    ],
    ids=["broken", "scan", "binary", "damaged", "deep", "image"],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, content: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused with its reason, or passed over with one warning."""
    (tmp_path / name).write_bytes(content)
    (tmp_path / "z.txt").write_text("Readable.")
    with pytest.raises(UsageError, match=rf"{name} cannot be read: .*{why}"):
        rows(tmp_path)
    warned: list[str] = []
    monkeypatch.setattr(console, "warn", warned.append)
    documents._skipped.cache_clear()
    for _ in range(2):
        assert [row["path"] for row in rows(tmp_path, skip_unreadable=True)] == ["z.txt"]
    assert len(warned) == 1 and name in warned[0] and why in warned[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949", "euc-kr"])
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_korean_is_read_in_any_encoding(name: str, encoding: str, tmp_path: Path) -> None:
    """UTF-8 with and without a mark, UTF-16, CP949 and EUC-KR give the same text."""
    (row,) = one(tmp_path, name, KOREAN.encode(encoding))
    assert row["text"].split() == KOREAN.split()


def test_line_ends_make_no_difference(tmp_path: Path) -> None:
    """Windows files are cut like others."""
    text = "# A\n\n" + "one\ntwo\n\n" * 30
    unix = one(tmp_path, "a.md", text, chunk_tokens=32)
    assert one(tmp_path, "a.md", text.replace("\n", "\r\n"), chunk_tokens=32) == unix


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_an_empty_file_brings_no_seed(name: str, tmp_path: Path) -> None:
    """Nor does one of headings, comments or menus alone."""
    for content in ("", "\n\n", "<!-- nothing -->", "<nav>Menu</nav>"):
        assert (name == "a.txt" and content.strip()) or one(tmp_path, name, content) == []


# The source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with documents, below it too, and other files."""
    home = tmp_path / "docs"
    (home / "more").mkdir(parents=True)
    (home / "b.md").write_text("# B\n\nBee.")
    (home / "a.txt").write_text("Ant.")
    (home / "more/c.html").write_text("<p>Cat.</p>")
    (home / "more/image.png").write_bytes(b"\x89PNG")
    return home


def test_a_folder_a_glob_and_a_file_are_sources(folder: Path) -> None:
    """Files come by name, other formats are passed over, paths are relative to what was named."""
    assert [row["path"] for row in rows(folder)] == ["a.txt", "b.md", "more/c.html"]
    assert [row["path"] for row in rows(folder / "*.*")] == ["a.txt", "b.md"]
    assert [row["path"] for row in rows(folder / "**/*.html")] == ["more/c.html"]
    assert [(row["path"], row["title"]) for row in rows(folder / "b.md")] == [("b.md", "B")]
    assert [row["path"] for row in rows(folder, count=2)] == ["a.txt", "b.md"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("docs/no", "no such file or folder"),
        ("docs/more/image.png", "a document's name ends with"),
        ("docs/*.pdf", "no documents in"),
        ("docs/*/../../*.md", r"no `\.\.` after a wildcard"),
    ],
)
def test_a_path_without_documents_is_refused(folder: Path, path: str, why: str) -> None:
    """The plan is wrong before anything runs."""
    with pytest.raises(ValidationError, match=why):
        Documents.model_validate({"path": path}, context={"folder": folder.parent})


def test_a_plan_names_documents_relative_to_its_folder(folder: Path) -> None:
    """Not relative to where the command runs."""
    source = Documents.model_validate({"path": "docs/*.md"}, context={"folder": folder.parent})
    assert [fields["path"] for fields, _ in source.rows(0)] == ["b.md"]


def test_documents_count_by_name_and_content(folder: Path) -> None:
    """Another text, another name or one more file is another identity; a move or a picture is not."""
    before = Documents(path=folder).identity()
    (folder / "more/other.png").write_bytes(b"\x89PNG")
    assert Documents(path=folder).identity() == before
    moved = folder.rename(folder.parent / "moved")
    assert Documents(path=moved).identity() == before
    (moved / "a.txt").rename(moved / "z.txt")
    renamed = Documents(path=moved).identity()
    (moved / "z.txt").write_text("Aunt.")
    changed = Documents(path=moved).identity()
    (moved / "new.md").write_text("New.")
    identities = [before, renamed, changed, Documents(path=moved).identity()]
    assert all(one not in identities[:n] for n, one in enumerate(identities))


def test_names_are_the_same_on_every_system(tmp_path: Path) -> None:
    """A file name in decomposed Hangul gives the path that a composed one gives."""
    import unicodedata

    (tmp_path / unicodedata.normalize("NFD", "포획심판령.md")).write_text("본령은 조약에 따른다.")
    assert [row["path"] for row in rows(tmp_path)] == ["포획심판령.md"]


@pytest.mark.parametrize(
    "name", ["docs_law_ko", "docs_transformers_ko", "docs_vue_ko", "docs_hf_course", "docs_react_ko"]
)
def test_korean_documentation_survives(name: str) -> None:
    """Of every real page at least 95 % of the Hangul is in its chunks, and chunks have the size asked for."""
    if not (DATA / name).is_dir():
        pytest.skip(f"no {DATA / name}")
    hangul = regex.compile(r"\p{Hangul}")
    found: dict[str, str] = {}
    for row in rows(DATA / name):
        found[row["path"]] = found.get(row["path"], "") + row["text"]
        body = "\n".join(line for line in row["text"].split("\n") if not line.startswith("#"))
        assert row["text"].strip() and "\ufffd" not in row["text"]
        assert estimated(body) <= 401
    for path, text in found.items():
        before = len(hangul.findall(decoded((DATA / name / path).read_bytes())))
        assert len(hangul.findall(text)) >= 0.95 * before, path


def test_korean_python_tutorial_survives(tmp_path: Path) -> None:
    """Paragraphs of the translated tutorial, as plain text in CP949, come out letter by letter."""
    source = DATA / "docs_python_ko/tutorial/appetite.po"
    if not source.is_file():
        pytest.skip(f"no {source}")
    entries = regex.findall(r'^msgstr ((?:".*"\n)+)', source.read_text(encoding="utf-8"), regex.MULTILINE)[1:]
    said = ["".join(regex.findall(r'"(.*)"', entry)).replace('\\"', '"').replace("\\n", "\n") for entry in entries]
    text = "\n\n".join(line for line in said if line).encode("cp949", errors="ignore").decode("cp949")
    chunks = one(tmp_path, "tutorial.txt", text.encode("cp949"), chunk_tokens=300)
    assert len(chunks) > 5
    assert "".join("".join(row["text"].split()) for row in chunks) == "".join(text.split())
