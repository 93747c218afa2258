"""diff: every row that has changed is counted once, under what has become of it."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from pipeline.errors import DataError, UsageError
from pipeline.records import Check, Message, Record
from pipeline.store import SHARDS, Input, Manifest, Tally, Version, VersionWriter
from stages import diff_rows
from stages.diff import Difference, aligned, diff
from stages.tables_diff import told
from tests.helpers import record

RULES = [{"kind": "length", "min_chars": 5}, {"kind": "exact"}]


def version(folder: Path, rows: list[Record], stage: str = "filter", **manifest: Any) -> Version:
    """A sealed version of these rows; `files` are written beside them."""
    files = manifest.pop("files", {})
    print_ = f"{len(list(folder.glob('*'))) + 1:08x}" * 8
    made = {"settings": {stage: {"rules": RULES}}, "inputs": []} | manifest
    path = folder / f"0001-{print_[:8]}"
    out = VersionWriter(path, Manifest(stage=stage, version=path.name, fingerprint=print_, **made))
    out.begin()
    for row in rows:
        out.write(row)
    for name, lines in files.items():
        (path / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return out.seal()


def dropped(row: Record, by: str = "length", detail: str = "3 characters, under 5") -> Record:
    """A row that a rule has dropped."""
    return row.checked(Check(name=by, value=3, passed=False, reason="too_short", detail=detail))


def counted(found: Difference) -> dict[tuple[str, str, str], int]:
    """Rows by what has become of them."""
    return {(g.what, g.before, g.after): g.rows for g in found.groups}


def plain(found: Difference) -> str:
    """As it is printed."""
    console = Console(width=100, file=io.StringIO())
    with console.capture() as said:
        console.print(told(found))
    return said.get()


def test_what_becomes_of_rows(tmp_path: Path) -> None:
    """Added, removed, dropped, taken back, held out, other words; the rest is the same. Each with an example."""
    rows = {name: record(f"대답 {name}", id=name) for name in ("same", "gone", "drop", "back", "held", "words")}
    before = version(tmp_path, [r for n, r in rows.items() if n != "back"] + [dropped(rows["back"])])
    after = version(tmp_path, [
        rows["same"], dropped(rows["drop"]), rows["back"], record("대답 new", id="new"),
        rows["held"].model_copy(update={"split": "heldout"}), record("other words", id="words"),
    ])  # fmt: skip
    found = diff(before, after)
    assert counted(found) == {
        ("fate", "kept", "length: too_short"): 1,
        ("fate", "length: too_short", "kept"): 1,
        ("fate", "kept", "held out"): 1,
        ("content", "kept", "kept"): 1,
        ("removed", "kept", ""): 1,
        ("added", "", "kept"): 1,
    }
    assert found.same == 1
    (example,) = next(g for g in found.groups if g.after == "length: too_short").examples
    assert (example.id, example.text, example.before) == ("drop", "대답 drop", "kept")
    assert example.after == "length: too_short (3 characters, under 5)"
    assert [(m.name, m.before, m.after) for m in found.counts] == [("kept", 5, 4), ("heldout", 0, 1)]


def test_settings_counts_and_figures(tmp_path: Path) -> None:
    """Settings by rule where the lists differ, inputs, the ledger, figures at their places, what it cost."""
    rules = [{"kind": "length", "min_chars": 9}, {"kind": "words"}, {"kind": "exact"}]
    models = [{"model": "trained", "perplexity": 20.0}]
    before = version(tmp_path, [record()], inputs=[Input(stage="generate", version="0001-a", fingerprint="a")],
                     ledger=[Tally(step="length", came=3, kept=2, dropped={"too_short": 1})], usage={"asked": 4},
                     figures={"loss": 2.0, "same": 1, "models": models, "names": ["x"]})  # fmt: skip
    models = [{"model": "trained", "perplexity": 15.0}]
    after = version(tmp_path, [record()], settings={"filter": {"rules": rules}},
                    inputs=[Input(stage="generate", version="0002-b", fingerprint="b")],
                    ledger=[Tally(step="length", came=3, kept=1, dropped={"too_short": 2}), Tally(step="words")],
                    figures={"loss": 1.5, "same": 1, "models": models, "fresh": True})  # fmt: skip
    found = diff(before, after)
    assert "filter.rules.length.min_chars: 5 -> 9" in found.settings
    assert "filter.rules.order: length, exact -> length, words, exact" in found.settings
    assert found.inputs == ["generate: 0001-a -> 0002-b"]
    assert [(s.step, s.came.after, s.kept.before, s.kept.after) for s in found.ledger] == [
        ("length", 3, 2, 1), ("words", 0, None, 0)]  # fmt: skip
    assert [(m.name, m.before, m.after) for m in found.ledger[0].dropped] == [("too_short", 1, 2)]
    moved = [(m.name, m.before, m.after) for m in found.figures]
    assert moved == [("loss", 2, 1.5), ("models.trained.perplexity", 20, 15), ("usage.asked", 4, None)]
    said = plain(found)
    assert "-0.5 (-25.0%)" in said and "gone" in said and "length" in said


def test_settings_are_named_by_place_where_the_rules_are_the_same() -> None:
    """As `--set` names them; lists of anything else stay lists."""
    changed = [{"kind": "length", "min_chars": 9}, {"kind": "exact"}]
    one, other = {"rules": RULES, "words": [1]}, {"rules": changed, "words": [1, 2]}
    assert aligned(one, other) == (one, other)
    twice = {"rules": [{"kind": "exact"}, {"kind": "exact"}]}
    assert aligned(one, twice) == (one, twice)


def test_checks_that_moved(tmp_path: Path) -> None:
    """Means over the rows that have the check in both, and how many rows have another value."""
    rows = [record(id=f"r{n}", checks=[Check(name="judge", value=n), Check(name="length", value=9)]) for n in range(4)]
    better = [r.checked(Check(name="judge", value=r.checks[0].value + 1)) for r in rows[:2]] + [rows[2]]
    found = diff(version(tmp_path, rows), version(tmp_path, better))
    (judge,) = found.checks
    assert (judge.name, judge.rows, judge.moved) == ("judge", 3, 2)
    assert (judge.before, round(judge.after, 6)) == (1.0, round(5 / 3, 6))


def test_training_rows_are_compared_by_record(tmp_path: Path) -> None:
    """Several rows of a record are one; the figures of the training stand beside them."""
    rows = [{"id": "a", "completion": [{"content": "x"}]}, {"id": "a", "completion": [{"content": "y"}]}, {"id": "b"}]
    before = version(tmp_path, [], "train", files={"rows.jsonl": rows}, figures={"last_loss": 3.0})
    other = [rows[1], rows[0], {"id": "b", "task": "answer"}, {"id": "c"}]
    after = version(tmp_path, [], "train", files={"rows.jsonl": other}, figures={"last_loss": 2.0})
    found = diff(before, after)
    assert (found.same, {(g.what, g.rows) for g in found.groups}) == (1, {("content", 1), ("added", 1)})
    assert [m.name for m in found.figures] == ["last_loss"]
    assert "only in the second" in plain(found)


def test_evaluations_are_compared_by_prompt(tmp_path: Path) -> None:
    """Every output where there are some, else the samples."""
    said = [{"id": "a", "answers": {"trained": "여우"}}, {"id": "b", "answers": {"trained": "곰"}}]
    files = {"outputs.jsonl": said, "samples.jsonl": [{"id": "a", "trained": "여우"}]}
    before = version(tmp_path, [], "evaluate", files=files)
    after = version(tmp_path, [], "evaluate", files={"outputs.jsonl": [said[0], said[1] | {"answers": {}}]})
    found = diff(before, after)
    assert (found.same, [(g.what, g.rows) for g in found.groups]) == (1, [("content", 1)])
    older = version(tmp_path, [], "evaluate", files={"samples.jsonl": [{"id": "a", "trained": "나비"}]})
    (gone, *_) = diff(older, version(tmp_path, [], "evaluate")).groups
    assert (gone.what, gone.examples[0].text) == ("removed", "나비")


def test_nothing_and_too_much(tmp_path: Path) -> None:
    """The same version, an empty one, two stages, a damaged file."""
    full, empty = version(tmp_path, [record()]), version(tmp_path, [])
    found = diff(full, full)
    assert (found.same, found.groups, found.settings, found.figures) == (1, [], [], [])
    assert counted(diff(full, empty)) == {("removed", "kept", ""): 1}
    assert diff(empty, empty).same == 0
    with pytest.raises(UsageError, match="two stages"):
        diff(full, version(tmp_path, [], "curate"))
    (full.path / "kept-00000.jsonl").write_bytes(b"{}\n")
    with pytest.raises(DataError, match="does not match its manifest"):
        diff(empty, full)


def test_what_is_printed_is_text(tmp_path: Path) -> None:
    """Words of rows are no markup and no code of the terminal."""
    rows = [record("[red]\x1b[31m빨강", id="r\x1b1")]
    said = plain(diff(version(tmp_path, []), version(tmp_path, rows)))
    assert "[red]␛[31m빨강" in said and "\x1b" not in said


Fates = st.dictionaries(
    st.text("ab가\"\\/'", min_size=1, max_size=3), st.tuples(st.sampled_from(SHARDS), st.sampled_from("xy")), max_size=8
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=Fates, other=Fates)
def test_every_row_is_in_one_group(tmp_path_factory: pytest.TempPathFactory, one: Any, other: Any) -> None:
    """Groups add up to all rows of both, whatever ids look like; what they say is what a plain comparison says."""
    folder = tmp_path_factory.mktemp("v")
    before, after = (version(folder, [_row(n, *fate) for n, fate in rows.items()]) for rows in (one, other))
    found = diff_rows.rows(before, after)
    expected: Counter[str] = Counter()
    for name in one.keys() | other.keys():
        a, b = one.get(name), other.get(name)
        expected["added" if a is None else "removed" if b is None else "same" if a == b
                 else "fate" if a[0] != b[0] else "content"] += 1  # fmt: skip
    by_what = Counter({"same": found.same})
    for group in found.groups:
        by_what[group.what] += group.rows
    assert +by_what == expected


def _row(name: str, shard: str, word: str) -> Record:
    row = record(id=name, messages=[Message(role="assistant", content=word)])
    if shard == "dropped":
        return dropped(row)
    return row.model_copy(update={"split": "heldout" if shard == "heldout" else "train"})
