"""Rows of foreign files: what is understood, what is refused, and that ids stay apart."""

from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from stages.intake import FileRows, to_record
from stages.sources.jsonl import read_rows

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["id", "messages", "prompt", "completion", "instruction", "input", "output", "conversations",
                        "checks", "made_by", "role", "content", "from", "value"])  # fmt: skip
TURN = st.dictionaries(KEYS, st.sampled_from(["user", "assistant", "human", "gpt"]) | JSON, max_size=3)


def file_of(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    return path


@given(st.dictionaries(KEYS, JSON | TURN | st.lists(TURN, max_size=2), max_size=4))
def test_any_row_is_taken_or_refused(row: dict[str, Any]) -> None:
    """Whatever an object holds, it becomes a record that can be written, or is refused with its place."""
    try:
        record = to_record(row, "rows.jsonl:1")
    except UsageError as error:
        assert str(error).startswith("rows.jsonl:1")
    else:
        assert record.line().endswith(b"\n")
        assert record.checks and record.messages


def test_alpaca_input_follows_the_instruction() -> None:
    """Instruction and input are one question, an empty line between them."""
    record = to_record({"instruction": "Translate.", "input": "토끼", "output": "rabbit", "id": 7}, "f:1")
    assert (record.prompt, record.answer, record.id) == ("Translate.\n\n토끼", "rabbit", "7")


def test_sharegpt_keeps_every_turn() -> None:
    """A conversation of several turns comes in whole, the system turn too."""
    turns = [("system", "S"), ("human", "Q1"), ("gpt", "A1"), ("human", "Q2"), ("gpt", "A2")]
    record = to_record({"conversations": [{"from": f, "value": v} for f, v in turns]}, "f:1")
    assert [m.role for m in record.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert (record.prompt, record.answer) == ("Q2", "A2")


def test_ids_are_unique_and_stable(tmp_path: Path) -> None:
    """Rows that say the same, or bring the same id, are told apart, the same way each time."""
    rows = [{"prompt": "a", "completion": "b"}] * 3 + [{"id": "x", "prompt": str(n), "completion": "c"} for n in (1, 2)]
    path = file_of(tmp_path, *rows)
    first, again = ([r.id for r in FileRows(path).read("kept")] for _ in range(2))
    assert first == again
    assert len(set(first)) == 5
    assert first[3] == "x"


def test_an_id_of_null_is_no_id() -> None:
    """A row whose id is null gets one from its content."""
    row = {"prompt": "a", "completion": "b"}
    assert to_record(row | {"id": None}, "f:1").id == to_record(row, "f:1").id


def test_odd_files_are_read(tmp_path: Path) -> None:
    """A byte order mark, empty lines, Windows line ends and no final newline are fine; U+2028 ends no line."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"a": 1}\r\n\r\n  \n{"a": "x\u2028y"}'.encode())
    rows = list(read_rows(path))
    assert [row["a"] for row, _ in rows] == [1, "x\u2028y"]
    assert [where.rpartition(":")[2] for _, where in rows] == ["1", "4"]


def test_a_limit_counts_per_sort(tmp_path: Path) -> None:
    """--limit takes the first rows in file order."""
    path = file_of(tmp_path, *({"prompt": str(n), "completion": "b"} for n in range(5)))
    assert [r.prompt for r in FileRows(path, 2).read("kept")] == ["0", "1"]
    assert list(FileRows(path).read("heldout")) == list(FileRows(path).read("dropped")) == []
