"""Leak: copies of evaluation items, whole, in part and reformatted; boilerplate and strangers are left alone."""

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import ValidationError

from filters.leak import Leak
from filters.references import items
from pipeline.errors import UsageError
from pipeline.records import Check, Message, Record
from tests.helpers import Nobody, record

ITEM = "A baker has 16 trays with 24 rolls on each. She sells 1,250 rolls less than twice that; how many are left?"
OTHER = "Explain why the leaves of maple trees turn red in autumn, in words that a child of six understands."
KOREAN = "빵집 주인이 쟁반 열여섯 개에 빵을 스물네 개씩 올려 두었습니다. 오늘 모두 몇 개의 빵이 있습니까?"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A set of three items."""
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": "#### 4"}) + "\n" for q in (ITEM, OTHER, KOREAN)))
    return path


def judged(file: Path, *rows: Record, **settings: Any) -> list[Check]:
    return list(Leak(references=(file,), **settings).sift(rows, Nobody()))


def asks(prompt: str, answer: str = "Two.") -> Record:
    return record(answer, prompt=prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        ITEM,
        ITEM.upper(),
        f"Solve this:\n\n> **{ITEM.replace('. ', '.**  ' + chr(10) + '> ').replace('1,250', '1250')}\n\nThink first.",
        ITEM.replace(" ", "\n"),
        " ".join(ITEM.split()[3:16]),
        ITEM.replace("sells", "has"),
        KOREAN,
        KOREAN.replace(" ", "").replace(".", ""),
    ],
)
def test_copies_are_seen(file: Path, prompt: str) -> None:
    """Whole, in part, with one word changed, in other case, layout, spacing and way of writing numbers."""
    (check,) = judged(file, asks(prompt))
    assert check.reason == "evaluation_item"
    assert check.value > 0.3
    assert f"set.jsonl:{3 if 'rolls' not in prompt.lower() else 1} in the prompt" in check.detail


@pytest.mark.parametrize(
    "prompt", ["", "How many rolls are left?", "A baker has 16 trays.", "빵이 있습니까? 오늘 모두"]
)
def test_strangers_pass(file: Path, prompt: str) -> None:
    """A few words in common are none of the item's runs."""
    assert judged(file, asks(prompt)) == [Check(name="leak")]


def test_the_span_is_shown_as_it_stands_in_the_row(file: Path) -> None:
    """The longest run that both have, in the row's own spelling; the value is its share of the item's words."""
    (check,) = judged(
        file, asks(f"Well: a BAKER has 16 trays, with 24 rolls on each; then? {OTHER[:20]}"), max_share=0.8
    )
    assert check.passed
    assert check.detail.endswith("in the prompt: 'a BAKER has 16 trays, with 24 rolls on each'")
    assert check.value == pytest.approx(10 / 22, abs=0.001)


def test_any_shared_run_drops_with_no_share_allowed(file: Path) -> None:
    """GPT-3's rule: thirteen words in a row; twelve are not enough, and short items count as a whole."""
    words = ITEM.split()
    rows = [asks(" ".join(words[:k])) for k in (12, 13)]
    assert [c.passed for c in judged(file, *rows, n=13, max_share=0)] == [True, False]
    short = "Name nine prime numbers between ten and fifty."
    file.write_text(json.dumps({"q": short}))
    assert [c.passed for c in judged(file, asks(short), asks(short[:-7]), n=13, max_share=0)] == [False, True]


def test_every_turn_is_read_and_only_those_asked_for(file: Path) -> None:
    """Earlier turns and the reasoning count; `on` leaves one side out."""
    turns = [Message(role="user", content=ITEM), Message(role="assistant", content="4."),
             Message(role="user", content="Thanks."), Message(role="assistant", content="Bye.")]  # fmt: skip
    rows = [record(messages=turns), record("No.", reasoning=OTHER), asks("x", f"I quote: {OTHER}")]
    assert [c.detail.split(": ")[0][-10:] for c in judged(file, *rows)] == ["the prompt", "the answer", "the answer"]
    assert [c.passed for c in judged(file, *rows, on="prompt")] == [False, True, True]
    assert [c.passed for c in judged(file, *rows, on="answer")] == [True, False, False]


def test_boilerplate_does_not_count(tmp_path: Path) -> None:
    """Runs that many items of a file share say nothing of any; those of two files with the same items do."""
    start = "Read the following short passage with care and then answer the question below it: "
    file = tmp_path / "quiz.jsonl"
    rows = [
        json.dumps({"q": f"{start}who met number {n} of the {n * 7} sisters in the year {n + 1900}?"})
        for n in range(30)
    ]
    file.write_text("\n".join(rows))
    (tmp_path / "again.jsonl").write_text("\n".join(rows))
    stranger = asks(f"{start}where do storks spend the winter?")
    assert judged(file, stranger)[0].value == 0
    assert judged(file, stranger, boilerplate=40)[0].reason == "evaluation_item"
    both = Leak(references=(file, tmp_path / "again.jsonl"))
    (check,) = both.sift([asks(json.loads(rows[4])["q"])], Nobody())
    assert check.value == 1
    assert "quiz.jsonl:5" in check.detail


def test_passages_that_many_rows_repeat_are_items(tmp_path: Path) -> None:
    """A passage in a field of its own is one item, however many questions are asked about it."""
    file = tmp_path / "reading.jsonl"
    file.write_text("\n".join(json.dumps({"passage": OTHER, "question": f"What about {n}?"}) for n in range(40)))
    assert judged(file, asks(OTHER))[0].value == 1


def test_fields_narrow_what_counts(file: Path) -> None:
    """Only the named fields are read, and one that no row has is refused by file and line."""
    file.write_text(json.dumps({"q": ITEM, "explanation": OTHER}))
    assert [c.passed for c in judged(file, asks(ITEM), asks(OTHER), fields=("q",))] == [False, True]
    with pytest.raises(UsageError, match=r"set\.jsonl:1 has none of the fields queston; it has q, explanation"):
        judged(file, asks(ITEM), fields=("queston",))


def test_kinds_of_files(tmp_path: Path) -> None:
    """JSONL, JSON, CSV with and without a header, TSV, text by paragraph or line, Parquet; all but that one as .gz."""
    texts = {
        "a.jsonl": json.dumps({"turns": [ITEM, {"deeper": OTHER}]}),
        "b.json": json.dumps([{"q": ITEM}, {"q": OTHER}]),
        "c.csv": f'id,q\n1,"{ITEM}"\n2,"{OTHER}"\n',
        "d.csv": f'"{ITEM}"\n"{OTHER}"\n',
        "e.tsv": f"q\tid\n{ITEM}\t1\n{OTHER}\t2\n",
        "f.txt": f"{ITEM}\n{OTHER}\n",
        "g.md": f"{ITEM.replace('. ', '.' + chr(10))}\n\n{OTHER}\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    duckdb.sql(f"copy (select * from read_json('{tmp_path}/b.json')) to '{tmp_path}/h.parquet'")
    for file in sorted(tmp_path.iterdir()):
        found = [i.text.replace("\n", " ") for i in items(file) if len(i.text) > 20]
        assert list(dict.fromkeys(found)) == [ITEM, OTHER], file
    assert [i.where for i in items(tmp_path / "g.md")] == [f"{tmp_path.name}/g.md:1", f"{tmp_path.name}/g.md:4"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"a": "b"}\n{"a": \n', r"x\.jsonl:2 is not JSON"),
        ("x.json", b"[1, ", r"x\.json is not JSON"),
        ("x.txt", b"fine\n\xff\xfe\n", r"x\.txt:2 is not UTF-8"),
        ("x.jsonl.gz", b"no", r"x\.jsonl\.gz cannot be read"),
        ("x.parquet", b"no", r"x\.parquet is not Parquet"),
        ("x.txt", b"too short", "no item of the references has 8 words or more"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """With the line, where there are lines, and before anything is written."""
    (tmp_path / name).write_bytes(content)
    rule = Leak(references=(tmp_path / name,))
    with pytest.raises(UsageError, match=message):
        list(rule.sift([asks(ITEM)], Nobody()))
    if "8 words" not in message:
        with pytest.raises(UsageError, match=message):
            rule.prepare()


def test_other_files_are_refused_with_the_plan(tmp_path: Path) -> None:
    """A kind that is not read, and a file that is not there."""
    (tmp_path / "x.xlsx").write_bytes(b"x")
    for name, message in (("x.xlsx", "not a kind of file this reads"), ("none.jsonl", "no such file")):
        with pytest.raises(ValidationError, match=message):
            Leak(references=(tmp_path / name,))


def test_it_says_what_it_cannot_see(file: Path) -> None:
    """The note for the manifest names the kinds of contamination that this setting misses."""
    (note,) = Leak(references=(file,), on="prompt").notes(None)
    assert note == (
        "leak: contamination it cannot see: items under 8 words, translated items, rephrased items (set `rephrased`), "
        "anything outside the prompt"
    )
    (note,) = Leak.model_validate({"references": [file], "rephrased": {}}).notes(None)
    assert "rephrased items less similar than 0.8" in note


def test_the_files_count_by_their_content(file: Path, tmp_path: Path) -> None:
    """Another content is another fingerprint, another place is not."""
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(file.read_bytes())
    one, same = Leak(references=(file,)).identity(), Leak(references=(copy,)).identity()
    assert one == same
    file.write_text(json.dumps({"q": ITEM}))
    assert Leak(references=(file,)).identity() != one
