"""Whatever happens to a file of a version or to the memo is found and named, never read silently."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines import Completion
from pipeline.errors import DataError, PipelineError
from pipeline.memo import Memo, repair
from pipeline.records import digest
from pipeline.run import Run
from pipeline.store import Manifest, Version, VersionWriter
from tests.helpers import records

NUMBER = st.floats(allow_nan=False, allow_infinity=False)
COMPLETION = st.builds(
    Completion,
    text=st.text(max_size=20),
    finish_reason=st.sampled_from(["stop", "length"]),
    prompt_tokens=st.integers(0, 10**6),
    completion_tokens=st.integers(0, 10**6),
    logprobs=st.dictionaries(st.text(max_size=5), NUMBER, max_size=4),
)


def version(folder: Path, *answers: str) -> Version:
    """A sealed version of records with these answers."""
    made = Manifest(stage="filter", version=folder.name, fingerprint="ab" * 32, settings={}, inputs=[])
    writer = VersionWriter(folder, made, shard_rows=2)
    writer.begin()
    for record in records(*answers):
        writer.write(record)
    return writer.seal()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """Five rows in three shards."""
    return version(tmp_path_factory.mktemp("run") / "0001-abababab", "토끼", "fox", "🐰", "bear", "별")


@given(st.data())
def test_any_changed_byte_is_found(sealed: Version, data: st.DataObject) -> None:
    """One byte of any shard changed, and reading stops with the name of the file."""
    info = data.draw(st.sampled_from(sealed.manifest.shards))
    place = data.draw(st.integers(0, info.bytes - 1))
    file = sealed.path / info.file
    whole = file.read_bytes()
    flipped = whole[place] ^ data.draw(st.integers(1, 255))
    file.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
    try:
        with pytest.raises(DataError, match=info.file):
            list(sealed.read("kept"))
    finally:
        file.write_bytes(whole)
    assert len(list(sealed.read("kept"))) == 5


@given(st.data())
def test_any_truncation_is_found(sealed: Version, data: st.DataObject) -> None:
    """A shard cut anywhere, at a line's end too, is named."""
    info = data.draw(st.sampled_from(sealed.manifest.shards))
    file = sealed.path / info.file
    whole = file.read_bytes()
    line = whole.index(b"\n") + 1
    file.write_bytes(whole[: data.draw(st.sampled_from([0, line]) | st.integers(0, info.bytes - 1))][: info.bytes - 1])
    try:
        with pytest.raises(DataError, match=info.file):
            list(sealed.read("kept"))
    finally:
        file.write_bytes(whole)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """A deleted shard does not shorten the data."""
    made = version(tmp_path / "0001-abababab", "a", "b", "c")
    (made.path / "kept-00001.jsonl").unlink()
    with pytest.raises(DataError, match=r"kept-00001\.jsonl is missing"):
        list(made.read("kept"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b"\xff\xfe", b"null"])
def test_a_broken_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    """A manifest that is not one is named with what to do."""
    made = version(tmp_path / "0001-abababab", "a")
    (made.path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match="0001-abababab has no readable manifest") as caught:
        Version(made.path)
    assert "run the stage again" in caught.value.hint


def test_another_format_is_refused(tmp_path: Path) -> None:
    """A version of a future release is not guessed at."""
    made = version(tmp_path / "0001-abababab", "a")
    file = made.path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"format": 1', b'"format": 2', 1))
    with pytest.raises(DataError, match="has format 2; this release reads 1"):
        Version(made.path)


def test_a_folder_without_a_manifest_is_no_version(tmp_path: Path) -> None:
    """What a killed run leaves is not seen as a version, and its folder is used again, emptied."""
    run = Run(tmp_path)
    made = version(tmp_path / "filter" / "0001-abababab", "a", "b")
    run.set_current(made)
    (made.path / "manifest.json").unlink()
    (made.path / "kept-00001.jsonl.tmp").write_bytes(b"half a li")
    assert run.versions("filter") == []
    assert run.current("filter") is None
    assert run.with_fingerprint("filter", "ab" * 32) is None
    assert run.folder_for("filter", "ab" * 32) == made.path
    assert run.folder_for("filter", "cd" * 32).name == "0002-cdcdcdcd"
    again = version(made.path, "c")
    assert [r.answer for r in again.read("kept")] == ["c"]
    assert not list(made.path.glob("*.tmp"))


def test_work_survives_a_beginning_but_not_the_seal(tmp_path: Path) -> None:
    """Checkpoints of an interrupted stage are there when it begins again and gone when it is done."""
    made = Manifest(stage="train", version="v", fingerprint="ab" * 32, settings={}, inputs=[])
    writer = VersionWriter(tmp_path / "0001-abababab", made)
    writer.begin()
    (writer.work / "checkpoint").write_text("half")
    writer.begin()
    assert (writer.work / "checkpoint").read_text() == "half"
    assert not (writer.seal().path / "work").exists()


def test_a_damaged_pointer_file_is_named(tmp_path: Path) -> None:
    """`lock.json` that is not readable loses no version and says so."""
    (tmp_path / "lock.json").write_text("{")
    with pytest.raises(DataError, match=r"lock\.json is not readable") as caught:
        Run(tmp_path).current("filter")
    assert "no version is lost" in caught.value.hint


@settings(max_examples=12)
@given(st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=8), COMPLETION, max_size=5))
def test_the_memo_gives_back_what_it_got(
    tmp_path_factory: pytest.TempPathFactory, answers: dict[str, Completion]
) -> None:
    """Completions come back equal, after the file was closed too; unknown keys are simply not there."""
    path = tmp_path_factory.mktemp("memo") / "memo.sqlite"
    places = {(key, 10): completion for key, completion in answers.items()}
    with Memo(path) as memo:
        for place, completion in places.items():
            memo.put({"engine": "x"}, {place: completion})
        assert memo.get([*places, ("unknown", 10)]) == places
    with Memo(path) as memo:
        assert len(memo) == len(answers)
        assert memo.get(places) == places
        assert memo.get([]) == {}


def test_an_answer_serves_every_limit_it_ended_within(tmp_path: Path) -> None:
    """Raising `max_tokens` asks again for what was cut only; lowering it for what would no longer fit."""
    whole = Completion(text="whole", finish_reason="stop", completion_tokens=6)
    cut = Completion(text="cut", finish_reason="length", completion_tokens=8)
    with Memo(tmp_path / "memo.sqlite") as memo:
        memo.put({}, {("whole", 8): whole, ("cut", 8): cut})
        wanted = [(key, limit) for key in ("whole", "cut") for limit in (5, 6, 8, 20)]
        assert memo.get(wanted) == {("whole", 6): whole, ("whole", 8): whole, ("whole", 20): whole, ("cut", 8): cut}


def test_the_memo_keeps_what_was_put_before_a_crash(tmp_path: Path) -> None:
    """A completion is durable when `put` returns: another connection sees it while the first is still open."""
    first = Memo(tmp_path / "memo.sqlite")
    first.put({}, {("k", 1): Completion(text="토끼")})
    with Memo(tmp_path / "memo.sqlite") as second:
        assert second.get([("k", 1)])["k", 1].text == "토끼"


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_a_memo_of_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no memo is named, with what to do about it."""
    path = tmp_path / "memo.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"memo\.sqlite cannot be read") as caught:
        Memo(path)
    assert "--repair" in caught.value.hint


def test_a_memo_damaged_in_the_middle_never_lies(tmp_path: Path) -> None:
    """Garbage over the pages of a real memo gives an error of this project, or the right answers."""
    path = tmp_path / "memo.sqlite"
    texts = {f"k{n}": f"{n} " * 400 for n in range(50)}
    with Memo(path) as memo:
        for key, text in texts.items():
            memo.put({}, {(key, 1): Completion(text=text)})
    whole = path.read_bytes()
    refused = 0
    for start in range(4096, len(whole) - 4096, 8192):
        path.write_bytes(whole[:start] + b"\xa5" * 4096 + whole[start + 4096 :])
        try:
            with Memo(path) as memo:
                found = memo.get((key, 1) for key in texts)
            assert {k: c.text for (k, _), c in found.items()}.items() <= texts.items()
        except PipelineError:
            refused += 1
    assert refused


def test_a_repair_saves_what_is_readable(tmp_path: Path) -> None:
    """Of a memo with one page of garbage all but the rows on it come back; the damaged file is kept."""
    path = tmp_path / "memo.sqlite"
    texts = {digest(n, 32): f"{n} " * 200 for n in range(400)}
    with Memo(path) as memo:
        memo.put({"engine": "x"}, {(key, 9): Completion(text=text) for key, text in texts.items()})
    whole = path.read_bytes()
    for page in (5, 40, len(whole) // 4096 - 2):  # not the root of the tree: through it leads every way
        path.write_bytes(whole[: page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096 :])
        done = repair(path)
        assert done.aside.is_file() and 300 <= done.saved <= 400
        with Memo(path) as memo:
            found = memo.get((key, 9) for key in texts)
        assert len(found) == done.saved
        assert all(texts[key] == completion.text for (key, _), completion in found.items())


def test_a_repair_of_garbage_saves_nothing(tmp_path: Path) -> None:
    """A file that is no database is moved aside, and the memo begins anew."""
    path = tmp_path / "memo.sqlite"
    path.write_bytes(b"garbage" * 1000)
    assert repair(path).saved == 0
    with Memo(path) as memo:
        assert len(memo) == 0


def test_an_answer_that_is_no_completion_is_refused(tmp_path: Path) -> None:
    """A row that somebody edited is not taken for a model's words."""
    path = tmp_path / "memo.sqlite"
    with Memo(path) as memo:
        memo.put({}, {("k", 1): Completion(text="x")})
    with sqlite3.connect(path) as db:
        db.execute("update completion set answer = '{\"text\": 3}'")
    db.close()
    with Memo(path) as memo, pytest.raises(DataError, match="cannot be read"):
        memo.get([("k", 1)])


def test_another_scheme_is_refused(tmp_path: Path) -> None:
    """A memo of a future release is not read under this one's keys."""
    path = tmp_path / "memo.sqlite"
    Memo(path).__exit__(None, None, None)
    with sqlite3.connect(path) as db:
        db.execute("update scheme set version = 9")
    db.close()
    with pytest.raises(DataError, match="has scheme 9; this release reads 2"):
        Memo(path)
