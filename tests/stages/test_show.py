"""show: which rows, drawn how, in which columns, and whether they fit."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from pipeline.errors import DataError, UsageError
from pipeline.records import Check, MadeBy, Record
from pipeline.store import Tally, Version
from stages import tables_show
from stages.show import Wanted, columns, matching, rows, value, view
from tests.helpers import record
from tests.stages.test_diff import dropped, version

ROWS = 40


def row(n: int) -> Record:
    """A row whose judge gave n, of one of two topics."""
    checks = [Check(name="length", value=9), Check(name="judge's", value=n)]
    return record(f"대답 {n}", id=f"r{n}", checks=checks, meta={"topic": ["동물", "우주"][n % 2], "of": {"a": n}},
                  made_by=MadeBy(model="m", completion_tokens=n))  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Version:
    """Forty kept rows and one that was dropped before the judge."""
    ledger = [Tally(step="length", came=41, kept=40, dropped={"too_short": 1}), Tally(step="judge's")]
    return version(tmp_path, [*map(row, range(ROWS)), dropped(record("x", id="short"))], ledger=ledger)


def ids(found: Any) -> list[str]:
    """The ids of lines."""
    return [view(line)["id"] for line in found]


def test_a_sample_is_drawn_by_seed(made: Version) -> None:
    """The same seed, the same rows; another one, others; a larger sample begins with the smaller."""
    drawn = ids(rows(made, Wanted(sample=6, seed=1)))
    assert len(set(drawn)) == 6 and drawn != sorted(drawn)
    assert ids(rows(made, Wanted(sample=6, seed=1))) == drawn
    assert ids(rows(made, Wanted(sample=9, seed=1)))[:6] == drawn
    assert ids(rows(made, Wanted(sample=6, seed=2))) != drawn
    assert sorted(ids(rows(made, Wanted(sample=99)))) == sorted(ids(rows(made, Wanted())))


def test_every_row_has_its_chance(made: Version) -> None:
    """Over many seeds rows come about as often as each other."""
    drawn = [name for seed in range(200) for name in ids(rows(made, Wanted(sample=4, seed=seed)))]
    times = [drawn.count(f"r{n}") for n in range(ROWS)]
    assert min(times) > 4 and max(times) < 44  # 20 on average, within five deviations


def test_conditions_and_samples_go_together(made: Version) -> None:
    """Only rows for which the condition holds are drawn; a score's name may hold any sign."""
    condition = "scores.\"judge's\" >= 30 and meta->>'topic' = '우주'"
    assert matching(made, "kept", condition) == {f"r{n}" for n in range(31, 40, 2)}
    assert set(ids(rows(made, Wanted(where=condition, sample=3)))) < {f"r{n}" for n in range(31, 40, 2)}
    assert ids(rows(made, Wanted("dropped", reason="too_short", where="\"by\" = 'length'"))) == ["short"]
    with pytest.raises(UsageError, match="nothing was dropped for 'low'"):
        rows(made, Wanted("dropped", reason="low"))
    with pytest.raises(UsageError, match="in quotes: a word of SQL"):
        rows(made, Wanted(where="by = 'x'"))


def test_columns(made: Version) -> None:
    """Fields, scores, what stands in meta and made_by; None where a row has none; wrong names are refused."""
    names = ["id", "answer", "scores.judge's", "meta.topic", "meta.of.a", "made_by.completion_tokens", "prompt"]
    (found,) = columns(made, "kept", rows(made, Wanted(where="id = 'r3'")), names)
    assert list(found.values()) == ["r3", "대답 3", 3.0, "우주", 3, 3, "A story."]
    (found,) = columns(made, "dropped", rows(made, Wanted("dropped")), ["id", "scores.judge's", "reason"])
    assert found == {"id": "short", "scores.judge's": None, "reason": "too_short"}
    with pytest.raises(UsageError, match=r"did you mean meta\.topic"):
        columns(made, "kept", iter(()), ["meta.topc"])


def test_a_name_with_a_dot() -> None:
    """A key that holds the dot itself is found, and nothing is found in what is no object."""
    assert value({"scores": {"a.b": 1}}, "scores.a.b") == 1
    assert value({"id": "x"}, "id.x") is None


def test_other_stages(tmp_path: Path) -> None:
    """What a training measured, as it lies there; there are no records to choose from."""
    made = version(tmp_path, [], "train", files={"metrics.jsonl": [{"step": 1, "loss": 2.5}, {"step": 2, "lr": 1}]})
    assert [view(line) for line in rows(made, Wanted(seed=7))] == [{"step": 1, "loss": 2.5}, {"step": 2, "lr": 1}]
    found = columns(made, "kept", rows(made, Wanted()), ["step", "loss"])
    assert list(found) == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": None}]
    with pytest.raises(UsageError, match="writes no records"):
        rows(made, Wanted(sample=3))
    (made.path / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match="is missing"):
        list(rows(made, Wanted()))


def printed(found: list[dict[str, Any]], names: list[str], width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of a table on a terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(width))
    console = Console(width=width, file=io.StringIO())
    with console.capture() as said:
        console.print(tables_show.table(found, names))
    return said.get().splitlines()


@given(
    found=st.lists(st.fixed_dictionaries({"id": st.text(), "답": st.none() | st.floats() | st.text("가나 \n\x1b[a")})),
    width=st.integers(8, 80),
)
def test_a_table_fits(found: list[dict[str, Any]], width: int) -> None:
    """One line a row, none wider than the terminal, whatever the words; nothing a terminal obeys."""
    with pytest.MonkeyPatch.context() as patch:
        lines = printed(found, ["id", "답"], width, patch)
    assert len(lines) == len(found) + 1
    assert all(cell_len(line) <= width for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_wide_columns_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id and a number stay whole as long as there is something longer to cut."""
    found = [{"id": "0123456789abcdef", "n": 12.5, "answer": "긴 대답 " * 50}]
    head, line = printed(found, ["id", "n", "answer"], 60, monkeypatch)
    assert "0123456789abcdef  12.5  긴 대답" in line and line.rstrip().endswith("…")
    assert head.split() == ["id", "n", "answer"]


def test_cards_are_text(made: Version) -> None:
    """A record's card and another line's fields, without codes."""
    bad = record("[bold]\x1b[2J\x9b", id="x")
    record_card, other = tables_show.cards([bad.line(), b'{"step":1,"loss":0.5}'])
    assert "[bold]␛[2J\ufffd" in str(record_card)
    assert str(other) == "step  1   loss  0.5"
