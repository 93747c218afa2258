"""Gold: scores and preferences in the shapes people have them; what is wrong is named with its line."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.run import Run
from stages.gold import _bare as bare
from stages.gold import cell, read
from tests.stages.conftest import Workshop


def jsonl(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "gold.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    return file


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "answer": "A"},
        {"prompt": "Q", "completion": "A"},
        {"instruction": "Q", "input": "", "output": "A"},
        {"instruction": "Q", "answer": "A"},
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"prompt": [{"role": "user", "content": "Q"}], "answer": "A"},
    ],
)
def test_a_scored_answer_in_any_shape(tmp_path: Path, row: dict[str, Any]) -> None:
    """Prompt and answer, TRL's, Alpaca's, chat messages."""
    (mark,) = read(jsonl(tmp_path, row | {"score": 4}), Run(tmp_path)).marks
    assert (mark.record.prompt, mark.record.answer, mark.score) == ("Q", "A", 4)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"instruction": "Q", "chosen": "A", "rejected": "B", "output": "ignored"},
        {"prompt": [{"role": "user", "content": "Q"}], "chosen": [{"role": "assistant", "content": "A"}],
         "rejected": [{"role": "assistant", "content": "B"}]},
        {"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
         "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]},
    ],
)  # fmt: skip
def test_a_preference_in_any_shape(tmp_path: Path, row: dict[str, Any]) -> None:
    """Texts, or TRL's messages with the prompt apart or inside."""
    (pair,) = read(jsonl(tmp_path, row), Run(tmp_path)).preferences
    assert [r.prompt for r in pair] == ["Q", "Q"]
    assert [r.answer for r in pair] == ["A", "B"]


def test_other_fields_go_with_the_row(tmp_path: Path) -> None:
    """A rubric that needs a source finds it."""
    (mark,) = read(jsonl(tmp_path, {"prompt": "Q", "answer": "A", "score": 1, "source": "S"}), Run(tmp_path)).marks
    assert mark.record.meta == {"source": "S"}


def test_a_record_is_named_by_its_id(workshop: Workshop, recorded: Any) -> None:
    """An id of the run brings the run's record; a foreign row that happens to have that id keeps its own text."""
    recorded("generate")
    (version,) = workshop.make("generate")
    record = next(iter(version.read("kept")))
    rows: list[dict[str, Any]] = [
        {"id": record.id, "keep": "yes"},
        {"id": record.id, "prompt": "Q", "answer": "Another.", "score": 2},
        {"id": record.id, "prompt": record.prompt, "answer": record.answer, "keep": "no"},
    ]
    marks = read(jsonl(workshop.folder, *rows), workshop.run).marks
    assert [mark.record.id == record.id for mark in marks] == [True, False, True]
    assert [mark.value for mark in marks] == [1, 2, 0]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"prompt": "Q", "answer": "A", "score": "good"}], r"gold\.jsonl:1: the score 'good' is no number"),
        ([{"prompt": "Q", "answer": "A", "score": float("1e400")}], "holds no mark"),
        ([{"prompt": "Q", "answer": "A", "keep": "maybe"}], r"gold\.jsonl:1: keep is 'maybe'; it takes yes or no"),
        ([{"prompt": "Q", "answer": "A"}], "holds no mark"),
        ([{"id": "nobody", "score": 3}], r"gold\.jsonl:1: no record of this run has the id nobody"),
        ([{"prompt": "Q", "score": 3}], r"gold\.jsonl:1 names no answer"),
        ([{"chosen": "A", "rejected": "B"}], r"gold\.jsonl:1 has `chosen` and `rejected` but no `prompt`"),
        ([{"prompt": "Q", "chosen": [{"content": "A"}], "rejected": "B"}], r"gold\.jsonl:1: not a conversation"),
        (
            [{"prompt": "Q", "answer": "A", "score": 3}, {"prompt": "Q", "chosen": "A", "rejected": "B"}],
            "a file of its",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    """With the line, before any model is asked."""
    with pytest.raises(UsageError, match=says):
        read(jsonl(tmp_path, *rows), Run(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(tmp_path: Path, encoding: str, mark: str) -> None:
    """Commas, semicolons or tabs; with a BOM or without; quoted line breaks; a decimal comma; empty cells."""
    file = tmp_path / "gold.csv"
    lines = [mark.join(("prompt", "answer", "score", "keep")), mark.join(('"동화\n하나"', "A", '"4,5"', "")),
             mark.join(("Q", "'=1+1", "", "예")), mark.join(("Q", "B", "", ""))]  # fmt: skip
    file.write_bytes("\r\n".join(lines).encode(encoding))
    gold = read(file, Run(tmp_path))
    assert [(m.record.prompt, m.record.answer, m.score, m.keep) for m in gold.marks] == [
        ("동화\n하나", "A", 4.5, None), ("Q", "=1+1", None, True)]  # fmt: skip
    assert gold.unmarked == 1


def test_a_csv_in_an_old_encoding_is_refused(tmp_path: Path) -> None:
    """Guessing at the encoding of Korean would change the text; the message says how to save it."""
    file = tmp_path / "gold.csv"
    file.write_bytes("prompt,answer,score\n동화,좋다,5\n".encode("cp949"))
    with pytest.raises(UsageError, match="CSV UTF-8"):
        read(file, Run(tmp_path))


@given(st.text(max_size=12) | st.sampled_from(["=1+1", "+1", "-1", "@x", "'=1", "''", "\t=1", "＝1", "'"]))
def test_a_cell_is_never_a_formula_and_comes_back(text: str) -> None:
    """What a spreadsheet would compute gets a quote before it; reading takes that one away, and no other."""
    written = cell(text)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))
    assert bare(written) == text
