"""A record written and read again is the same record, by this project and by the usual loaders."""

import os
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.component import file_digest
from pipeline.engines import Request, Sampling
from pipeline.records import Check, MadeBy, Message, Record, digest
from pipeline.store import Manifest, Version, VersionWriter
from stages.intake import to_record

BREAKS = ["\u2028", "\u2029", "\n", "\r\n", "\x00", "\x85", "\ufeff", "\u200b", "\ufffd", "\U0010ffff"]
ODD = st.sampled_from([*BREAKS, "🐰‍🦊", "토끼", "\u1112\u1161\u11ab", '"', "\\", "{"])
TEXT = st.lists(st.one_of(ODD, st.text(max_size=8)), max_size=5).map("".join)
NAME = st.text(string.ascii_lowercase, min_size=1, max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MESSAGE = st.builds(Message, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=TEXT)
CHECK = st.builds(Check, name=NAME, value=NUMBER, passed=st.booleans(), reason=st.just("") | NAME, detail=TEXT)
RECORD = st.builds(
    Record,
    id=NAME,
    task=NAME,
    split=st.sampled_from(["train", "heldout"]),
    messages=st.lists(MESSAGE, min_size=1, max_size=3),
    seeds=st.lists(NAME, min_size=1, max_size=2),
    made_by=st.builds(MadeBy, engine=NAME, model=TEXT, temperature=NUMBER, sample=st.integers(0, 9)),
    checks=st.lists(CHECK, min_size=1, max_size=3),
    meta=st.dictionaries(TEXT, JSON, max_size=3),
    by=st.just("") | NAME,
    reason=st.just("") | NAME,
    score=NUMBER,
    detail=TEXT,
)


@given(RECORD)
def test_a_record_is_one_line_and_comes_back(record: Record) -> None:
    """Whatever stands in it, a record is exactly one line, and reading that line gives it back."""
    line = record.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Record.model_validate_json(line) == record
    assert Record.model_validate_json(line).line() == line


@given(TEXT)
def test_text_is_written_readably(text: str) -> None:
    """Characters stand in the file as they are, not as escapes."""
    content = "토끼🐰" + text
    line = Record(id="a", task="t", messages=[Message(role="user", content=content)], seeds=["a"],
                  checks=[Check(name="c")]).line().decode()  # fmt: skip
    assert "토끼🐰" in line
    assert not re.search(r"\\u(?!00[01])", re.sub(r"\\\\", "", line))


def _kinds() -> dict[str, list[Record]]:
    """Rows as different stages and users leave them."""

    def made(n: int, **more: Any) -> Record:
        messages = [Message(role="user", content="묻다\u2028?"), Message(role="assistant", content=f"답 {n} 🐰")]
        fields = {"task": "respond", "messages": messages, "seeds": [f"s{n}"], "checks": [Check(name="generate")]}
        return Record(id=f"{n:04d}", **(fields | more))

    filtered = [made(n, checks=[Check(name="generate", value=7), Check(name="judge", value=3.25)]) for n in range(5)]
    failed = Check(name="length", value=2, passed=False, reason="too_short", detail="2 characters, under 9")
    imported = [{"prompt": "1 + 1", "completion": "2", "tags": ["a"], "level": 3},
                {"id": 7, "prompt": "when?", "completion": "2024-01-01", "level": "hard", "tags": None}]  # fmt: skip
    return {
        "generated": [
            made(n, meta={"keywords": ["달", "별"], "n": n}, made_by=MadeBy(temperature=1)) for n in range(5)
        ],
        "untouched": [made(n, split="heldout") for n in range(3)],
        "filtered": [r.model_copy(update={"meta": {"n": "one", "deep": {"x": [None, 1.5]}}}) for r in filtered],
        "dropped": [r.checked(failed) for r in filtered],
        "imported": [to_record(row, f"f:{n}") for n, row in enumerate(imported, 1)],
        "conversation": [made(9, messages=[Message(role="system", content=""), Message(role="user", content="x")])],
    }


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    """One file a kind, in an order that puts the poorest row types first and last."""
    files = []
    for name, rows in _kinds().items():
        file = tmp_path / f"{name}.jsonl"
        file.write_bytes(b"".join(row.line() for row in rows))
        files.append(str(file))
    return files


def _ids(shards: list[str]) -> list[str]:
    return [Record.model_validate_json(line).id for s in shards for line in Path(s).read_bytes().splitlines()]


@pytest.mark.parametrize("order", [1, -1])
def test_datasets_reads_any_mix(shards: list[str], tmp_path: Path, order: int) -> None:
    """`load_dataset("json")` finds one schema in shards of every kind, whichever comes first."""
    from datasets import load_dataset

    mix = shards[::order]
    rows = load_dataset("json", data_files=mix, split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"][:] == _ids(mix)
    assert set(rows.column_names) == set(Record.model_fields)


def test_ids_that_look_like_dates_are_text(shards: list[str], tmp_path: Path) -> None:
    """Ids that a user's file brought stay the text they are, in any mix."""
    from datasets import load_dataset

    row = {"id": "2024-01-01", "prompt": "a", "completion": "b"}
    (tmp_path / "dated.jsonl").write_bytes(to_record(row, "f:1").line())
    mix = [str(tmp_path / "dated.jsonl"), *shards]
    assert load_dataset("json", data_files=mix, split="train", cache_dir=str(tmp_path / "cache"))["id"][:] == _ids(mix)


@pytest.mark.parametrize("order", [1, -1])
def test_duckdb_reads_any_mix(shards: list[str], order: int) -> None:
    """DuckDB infers one schema, and nested fields can be asked for."""
    mix = shards[::order]
    found = duckdb.execute("select id, made_by.temperature, checks[1].name from read_json_auto(?)", [mix]).fetchall()
    assert [row[0] for row in found] == _ids(mix)


@pytest.mark.parametrize("order", [1, -1])
def test_polars_reads_any_mix(shards: list[str], order: int) -> None:
    """Every shard has the same Polars schema, so they concatenate without casts."""
    frames = [pl.read_ndjson(s) for s in shards[::order]]
    assert pl.concat(frames)["id"].to_list() == _ids(shards[::order])
    assert len({str(f.schema) for f in frames}) == 1


@given(RECORD, NAME)
def test_a_failed_check_drops_once(record: Record, name: str) -> None:
    """The first failed check names the drop; later ones are kept as measurements and change nothing else."""
    alive = record.model_copy(update={"by": ""})
    first = alive.checked(Check(name=name, value=1, passed=False, reason="first", detail="d"))
    second = first.checked(Check(name="z", value=2, passed=False, reason="second"))
    assert (second.by, second.reason, second.score, second.detail) == (name, "first", 1, "d")
    assert second.scored("z") == 2
    assert second.scored(name) == (2 if name == "z" else 1)


@given(st.lists(RECORD, max_size=25), st.integers(1, 7))
def test_a_version_accounts_for_every_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Record], size: int
) -> None:
    """Kept, held out and dropped rows add up to what was written, in order, in shards of the fixed size."""
    folder = tmp_path_factory.mktemp("version") / "0001-00000000"
    writer = VersionWriter(folder, manifest(), shard_rows=size)
    writer.begin()
    for row in rows:
        writer.write(row)
    version = writer.seal()
    parts = {shard: list(version.read(shard)) for shard in ("kept", "heldout", "dropped")}
    assert {shard: len(part) for shard, part in parts.items()} == version.manifest.counts
    assert sum(version.manifest.counts.values()) == len(rows)
    assert parts["dropped"] == [r for r in rows if r.by]
    assert parts["heldout"] == [r for r in rows if not r.by and r.split == "heldout"]
    assert parts["kept"] == [r for r in rows if not r.by and r.split == "train"]
    for info in version.manifest.shards:
        assert info.rows == size or info.rows == version.rows(info.file.split("-")[0]) % size  # type: ignore[arg-type]
        assert (folder / info.file).stat().st_size == info.bytes
        assert file_digest(folder / info.file) == info.sha256
    assert Version(folder).manifest == version.manifest


def manifest(**more: Any) -> Manifest:
    fields: dict[str, Any] = {"stage": "filter", "version": "0001-00000000", "fingerprint": "0" * 64}
    return Manifest(**(fields | {"settings": {}, "inputs": []} | more))


def _python(code: str, seed: str) -> str:
    env = os.environ | {"PYTHONHASHSEED": seed}
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, check=True
    ).stdout


def test_digests_agree_between_processes() -> None:
    """A digest does not depend on the process: neither on hash seeds nor on the order of keys."""
    code = "from pipeline.records import digest; print(digest({'b': ['달', 1.5, None], 'a': {'y': 1, 'x': 2}}), end='')"
    here = digest({"a": {"x": 2, "y": 1}, "b": ["달", 1.5, None]})
    assert {_python(code, "1"), _python(code, "2")} == {here}


@given(TEXT, TEXT, TEXT.filter(bool))
def test_a_request_key_is_what_shapes_the_answer(one: str, other: str, text: str) -> None:
    """The caller's id is no part of a request's key; messages, sampling, seed, sample and engine are."""

    def ask(id: str = one, content: str = text, **more: Any) -> Request:
        return Request(id=id, messages=(Message(role="user", content=content),), **more)

    key = ask().key({"model": "a"})
    assert ask(id=other).key({"model": "a"}) == key
    changed = [
        ask(content=text + "."), ask(seed=1), ask(sample=1), ask(choices=("1",)), ask(logprobs=1),
        ask(json_schema={}), ask(sampling=Sampling(temperature=0.5)),
        ask(chat_template_kwargs={"enable_thinking": False}),
    ]  # fmt: skip
    keys = {r.key({"model": "a"}) for r in changed} | {key, ask().key({"model": "b"})}
    assert len(keys) == len(changed) + 2
