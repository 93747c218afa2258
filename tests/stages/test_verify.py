"""verify finds what is not as it was written, names it, and finds nothing else."""

import copy
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.errors import DataError, UsageError
from pipeline.records import Check
from pipeline.run import Run
from pipeline.store import Version, pretty
from stages import verify, verify_ledger
from stages.verify_found import Findings, Ids, plain
from tests.helpers import record
from tests.stages import whole
from tests.stages.conftest import Workshop
from tests.stages.sealed import current
from tests.stages.whole import copied, edit, problems, rehash, rewrite

pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A whole run, which no test changes."""
    return whole.make(tmp_path_factory.mktemp("plan"))


@pytest.fixture
def run(shop: Workshop, tmp_path: Path) -> Run:
    """A copy of it."""
    return copied(shop, tmp_path / "tiny")


def over(shop: Workshop, run: Run) -> Workshop:
    """The same plan over a copy of its run."""
    other = copy.copy(shop)
    other.run = run
    return other


def only(found: list[str], *parts: str) -> None:
    """There is one problem, and it says all of this."""
    assert len(found) == 1, found
    assert all(part in found[0] for part in parts), found[0]


def test_a_whole_run_is_whole(shop: Workshop) -> None:
    """Nothing is found, everything is counted, and nothing is written."""
    before = {p: p.stat().st_mtime_ns for p in shop.run.path.rglob("*") if "memo" not in p.name}
    found = verify.examine(shop.run)
    assert found.findings == []
    assert [name.split("/")[0] for name in found.versions] == ["generate", "filter", "train", "evaluate"]
    assert found.rows == 24 + 22 and found.completions
    assert {p: p.stat().st_mtime_ns for p in shop.run.path.rglob("*") if "memo" not in p.name} == before
    found.refuse()
    with_pairs = current(shop.run, "filter").manifest.figures["pairs"]
    assert with_pairs["pairs"] and with_pairs["heldout"]  # else the tests below say little
    assert list(current(shop.run, "generate").path.glob("logprobs-*"))


def test_a_missing_file_is_named(run: Run) -> None:
    """A shard, and a file beside the shards."""
    (current(run, "filter").path / "kept-00000.jsonl").unlink()
    only(problems(run), "filter/0001-", "kept-00000.jsonl: is missing")
    (current(run, "train").path / "model/설정.json").unlink()
    assert [p.split("/", 2)[2] for p in problems(run)] == [
        "kept-00000.jsonl: is missing", "model/설정.json: is missing",
    ]  # fmt: skip


def test_a_missing_row_is_found_though_the_digests_agree(run: Run) -> None:
    """The counts, the ledger and the stage below miss it."""
    version = current(run, "generate")
    rewrite(version, "kept-00000.jsonl", lambda rows: rows[1:])
    found = problems(run)
    assert any("counts" in p and "kept rows, and there are" in p for p in found)
    assert any("by the ledger" in p and "came" in p for p in found)
    assert any("ids are of no row" in p and "logprobs-00000" in p for p in found)
    assert any("are not among those that generate/" in p for p in found)


def test_a_row_that_did_not_come_is_found(run: Run) -> None:
    """The stage below has fewer rows than the one above passed on, and its own sums agree."""
    version = current(run, "filter")
    rewrite(version, "kept-00000.jsonl", lambda rows: rows[1:])
    (version.path / "pairs-00000.jsonl").unlink()

    def change(manifest: dict[str, Any]) -> None:
        manifest["counts"]["kept"] -= 1
        manifest["files"] = [f for f in manifest["files"] if f["file"] != "pairs-00000.jsonl"]
        for tally in manifest["ledger"]:
            tally["came"], tally["kept"] = tally["came"] - 1, tally["kept"] - 1

    edit(version, change)
    only(problems(run), "filter/0001-", "rows came, and generate/0001-", "on")


def test_a_row_in_the_wrong_shard_is_found(run: Run) -> None:
    """A dropped row among the kept ones, by its line."""
    version = current(run, "filter")
    wrong = (version.path / "dropped-00000.jsonl").read_bytes().splitlines(keepends=True)[0]
    rewrite(version, "dropped-00000.jsonl", lambda rows: rows[1:])
    rewrite(version, "kept-00000.jsonl", lambda rows: [*rows, wrong])
    edit(version, lambda m: m["counts"].update(kept=m["counts"]["kept"] + 1, dropped=m["counts"]["dropped"] - 1))
    line = len((version.path / "kept-00000.jsonl").read_bytes().splitlines())
    found = problems(run)
    where = f"kept-00000.jsonl: 1 rows are of another sort (dropped) than their file: line {line}"
    assert any(p.endswith(where) for p in found)


def test_held_out_rows_among_the_others_are_found(run: Run) -> None:
    """A held-out row in the shard that trains."""
    version = current(run, "filter")
    moved = (version.path / "heldout-00000.jsonl").read_bytes()
    rewrite(version, "kept-00000.jsonl", lambda rows: [*rows, moved.splitlines(keepends=True)[0]])
    found = problems(run)
    assert any("of another sort (heldout)" in p for p in found)
    assert any("1 ids stand more than once" in p and "kept-00000.jsonl:" in p for p in found)


def test_a_row_that_is_no_record_is_found(run: Run) -> None:
    """By its line, and the sums say nothing that is not so."""
    version = current(run, "generate")
    rewrite(version, "kept-00000.jsonl", lambda rows: [rows[0], b'{"id": "\x1b[31m"}\n', *rows[2:]])
    only(problems(run), "kept-00000.jsonl: 1 rows are no records: line 2")


def test_training_on_a_held_out_row_is_found(run: Run) -> None:
    """In the training rows of the version above, and of the one it is evaluated on."""
    version = current(run, "train")
    held = whole.first(current(run, "filter"), "heldout").id
    rewrite(version, "rows.jsonl", lambda rows: [*rows[1:], orjson.dumps({"id": held}) + b"\n"])
    found = problems(run)
    assert [p.split(" in ")[1].split("/")[0] for p in found] == ["generate", "filter"]
    assert all("rows.jsonl: trains on 1 rows that are held out" in p and held in p for p in found)


def test_what_a_student_is_evaluated_on_may_not_train_it(run: Run) -> None:
    """Also where the training rows came from somewhere else."""
    filtered = current(run, "filter")
    rows = [{"id": whole.first(filtered, "heldout").id}, {"id": "b"}]
    train = whole.seal(run, "train", [], {"rows.jsonl": rows}, 2)
    assert problems(run) == []
    whole.seal(run, "evaluate", [filtered, train], {})
    found = problems(run)
    assert len(found) == 2 and all("trains on 1 rows" in p for p in found)


def test_fewer_training_rows_than_the_ledger_says(run: Run) -> None:
    """Records are counted, whose rows follow each other."""
    version = current(run, "train")
    rewrite(version, "rows.jsonl", lambda rows: [row for row in rows for _ in range(2)])
    assert problems(run) == []
    rewrite(version, "rows.jsonl", lambda rows: rows[2:])
    only(problems(run), "train/0001-", "records give training rows")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["settings"].update(seed=4), "does not follow from its settings and inputs"),
        (lambda m: m["settings"]["filter"]["rules"].pop(), "does not follow from its settings and inputs"),
        (lambda m: m["inputs"].clear(), "does not follow from its settings and inputs"),
        (lambda m: m.update(fingerprint="0" * 64), "another than its folder"),
        (lambda m: m.update(stage="curate"), "calls itself curate/0001-"),
        (lambda m: m.update(version="0002-00000000"), "calls itself filter/0002-00000000"),
        (lambda m: m["counts"].update(kept=99), "counts 99 kept rows, and there are"),
        (lambda m: m["ledger"][0].update(kept=99), "the ledger of length does not add up"),
        (lambda m: m["ledger"].clear(), "has rows and no ledger"),
        (lambda m: m["ledger"].pop(), "by the ledger 0 rows were dropped by first for low_score"),
        (lambda m: m["ledger"].reverse(), "the ledger has a gap"),
        (lambda m: m["shards"][0].update(rows=99), "rows, and its manifest says 99"),
        (lambda m: m["shards"][0].update(bytes=99), "bytes, and its manifest says 99"),
        (lambda m: m["shards"][0].update(sha256="0" * 64), "is not what was written: its sha256 differs"),
        (lambda m: m["shards"].pop(0), "is not in the manifest, and whoever reads files by name"),
        (lambda m: m["shards"][0].update(file="../../lock.json"), "names a file outside its folder"),
        (lambda m: m["figures"]["pairs"].update(pairs=99), "counts 99 pairs"),
        (lambda m: m.update(format=2), "has format 2"),
        (lambda m: m.pop("inputs"), "has no readable manifest.json"),
    ],
)
def test_an_edited_manifest_is_found(run: Run, change: Callable[[dict[str, Any]], object], says: str) -> None:
    """Whatever follows from the rows, the settings or the folder is held against them."""
    edit(current(run, "filter"), change)
    assert any(says in p for p in problems(run)), problems(run)


def test_pairs_across_the_split_are_found(run: Run) -> None:
    """A pair for training whose rejected answer is held out."""
    version = current(run, "filter")
    held = whole.first(version, "heldout").id

    def change(rows: list[bytes]) -> list[bytes]:
        return [orjson.dumps(orjson.loads(rows[0]) | {"rejected_id": held}) + b"\n", *rows[1:]]

    rewrite(version, "pairs-00000.jsonl", change)
    only(problems(run), "pairs-00000.jsonl: 1 pairs are of rows that are not here or of the other split")


def test_log_probabilities_that_do_not_fit_are_found(run: Run) -> None:
    """Offsets that go back; and a file that is none is told, not thrown."""
    version = current(run, "generate")
    file = version.path / "logprobs-00000.safetensors"
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    first = header + orjson.loads(whole[8:header])["offsets"]["data_offsets"][0]
    file.write_bytes(whole[:first] + b"\x01" + whole[first + 1 :])
    rehash(version)
    only(problems(run), "logprobs-00000.safetensors: its offsets do not fit")
    file.write_bytes(whole[:4])
    rehash(version)
    only(problems(run), "logprobs-00000.safetensors: cannot be read")


def test_vectors_without_rows_are_found(tmp_path: Path) -> None:
    """Of a choice: a line and a vector for every row."""
    import numpy as np

    run = Run(tmp_path / "tiny")
    rows = [{"id": "a"}, {"id": "b"}]
    version = whole.seal(run, "curate", [], {"embeddings.jsonl": rows, "embeddings.npy": b""})
    with (version.path / "embeddings.npy").open("wb") as file:
        np.save(file, np.zeros((3, 2), np.float32))
    rehash(version)
    assert [p.split(": ", 1)[1] for p in problems(run)] == [
        "2 ids are of no row: a, b", "has 3 vectors, and embeddings.jsonl 2 lines",
        "has 2 lines, and there are 0 rows",
    ]  # fmt: skip


def test_lineage_that_is_gone_is_found(run: Run) -> None:
    """The version that another was made from, deleted; and the same, made once more, is as good."""
    given = current(run, "generate").path
    given.rename(given.with_name(f"0007{given.name[4:]}"))
    edit(Version(given.with_name(f"0007{given.name[4:]}")), lambda m: m.update(version=f"0007{given.name[4:]}"))
    found = verify.examine(run)
    assert [p.where for p in found.problems] == ["lock.json"]
    assert any("made alike" in f.what for f in found.findings)
    shutil.rmtree(given.with_name(f"0007{given.name[4:]}"))
    assert any("was made from generate/0001-" in p and "not here whole" in p for p in problems(run))


def test_a_file_as_input_is_looked_for(shop: Workshop, run: Run, tmp_path: Path) -> None:
    """Gone or changed it is a note: the version is what it was."""
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"".join(record(f"Answer number {n}, long enough.", id=f"r{n}").line() for n in range(3)))
    rules = "filter.rules=[{kind: length}]"
    other = over(shop, run)
    other.make("filter", overrides=(rules, "filter.pairs=null"), input=str(file))
    assert not [f for f in verify.examine(run).findings if "file" in f.what]
    file.unlink()
    found = verify.examine(run)
    assert found.problems == [] and "which is not here as it was" in found.findings[0].what


def test_a_limited_version_follows_from_its_settings(shop: Workshop, run: Run) -> None:
    """`--limit` is part of the fingerprint; another one in the manifest is found."""
    other = over(shop, run)
    other.make("generate", "filter", limit=5)
    assert problems(run, everything=True) == []
    made = current(run, "filter")
    assert made.manifest.limit == 5
    file = made.path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"limit": 5', b'"limit": 6'))
    assert "fingerprint does not follow" in " ".join(problem.what for problem in verify.examine(run).problems)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not readable"),
        (b"[]", "is not readable"),
        (b'{"current": 3}', "is not readable"),
        (b'{"current": {"filter": "0009-00000000"}}', "names filter/0009-00000000, which is not here whole"),
    ],
)
def test_pointers_to_nowhere_are_found(run: Run, content: bytes, says: str) -> None:
    """`lock.json` that cannot be read, or names what is not there."""
    (run.path / "lock.json").write_bytes(content)
    only(problems(run), "lock.json", says)


def test_without_pointers_everything_is_looked_at(run: Run) -> None:
    """A note, for a run may be killed before the first pointer is written."""
    (run.path / "lock.json").unlink()
    found = verify.examine(run)
    assert len(found.versions) == 4 and [f.where for f in found.findings] == ["lock.json"]


def test_older_versions_are_looked_at_when_asked_for(shop: Workshop, run: Run) -> None:
    """An old version's damage is no matter of the current ones."""
    other = over(shop, run)
    old = current(run, "filter")
    other.make("filter", overrides=("filter.rules.1.min_score=3",))
    for stage in ("train", "evaluate"):
        shutil.rmtree(run.path / stage)
    (run.path / "lock.json").write_bytes(
        pretty({"format": 1, "current": {s: current(run, s).name for s in ("generate", "filter")}})
    )
    (old.path / "kept-00000.jsonl").unlink()
    assert problems(run) == []
    only(problems(run, everything=True), old.name, "is missing")


def test_an_unfinished_version_is_a_note(run: Run) -> None:
    """It is what a killed run leaves; files nobody reads are, too."""
    (run.path / "filter/0002-abababab").mkdir()
    (current(run, "filter").path / "notes.txt").write_text("mine")
    found = verify.examine(run)
    assert found.problems == []
    assert [f.what for f in found.findings] == ["was begun and is not finished", "is not in the manifest"]


def test_a_stray_shard_is_found(run: Run) -> None:
    """Readers that go by names would take it for rows."""
    (current(run, "filter").path / "kept-00001.jsonl").write_bytes(record().line())
    only(problems(run), "kept-00001.jsonl: is not in the manifest")


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
def test_a_memo_that_cannot_be_read_is_found(run: Run, content: bytes) -> None:
    """A file that is no memo; one that is not there is a note."""
    run.memo.write_bytes(content)
    only(problems(run), "memo.sqlite: cannot be read")
    run.memo.unlink()
    found = verify.examine(run)
    assert (found.problems, found.completions) == ([], None)


def test_an_answer_that_is_none_is_found(run: Run) -> None:
    """Every answer of the memo is read."""
    with sqlite3.connect(run.memo) as db:
        db.execute("update completion set answer = '{\"text\": 3}' where key = (select min(key) from completion)")
    db.close()
    only(problems(run), "memo.sqlite: cannot be read")


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Nothing to look at is a mistake in the plan's name or the folder."""
    with pytest.raises(UsageError, match="nothing has been run yet"):
        verify.examine(Run(tmp_path / "none"))


def test_refusing_names_the_first_problem(run: Run) -> None:
    """The message has what, where and the next step; what a file says cannot colour the terminal."""
    edit(current(run, "filter"), lambda m: m.update(version="\x1b[31mred"))
    (current(run, "filter").path / "kept-00000.jsonl").unlink()
    with pytest.raises(DataError, match=r"is not whole: filter/0001-.*calls itself.*, and 1 more") as caught:
        verify.examine(run).refuse()
    assert "\x1b" not in str(caught.value) and "run the stage again" in caught.value.hint
    assert plain("a\x1b\tb\n") == "a\N{REPLACEMENT CHARACTER} b"


def test_selectors_share_the_rows() -> None:
    """A choice with a replay: both selectors' steps together take what near-duplicates left."""
    from pipeline.store import Manifest, Tally
    from stages.verify_rows import Content

    manifest = Manifest(stage="curate", version="v", fingerprint="ab" * 32, settings={}, inputs=[])
    manifest.ledger = [
        Tally(step="dedup", came=5, kept=4, dropped={"duplicate_of": 1}),
        Tally(step="top", came=3, kept=2, dropped={"not_chosen": 1}),
        Tally(step="replay 1: herding", came=1, kept=0, dropped={"not_chosen": 1}),
    ]
    manifest.counts = {"kept": 2, "heldout": 0, "dropped": 3}
    content = Content()
    for n, (by, reason) in enumerate([("", ""), ("", ""), ("dedup", "duplicate_of"), ("top", "not_chosen"),
                                      ("herding", "not_chosen")]):  # fmt: skip
        one = record(id=f"r{n}")
        content.rows["dropped" if by else "kept"] += 1
        content.add(one.checked(Check(name=by, passed=False, reason=reason)) if by else one)
    version = Version.__new__(Version)
    version.path, version.manifest = Path("curate/v"), manifest
    out = Findings()
    verify_ledger.counted(version, content, out)
    assert out.found == []
    manifest.ledger[1].came, manifest.ledger[1].kept = 4, 3
    verify_ledger.counted(version, content, out)
    assert any("has a gap" in finding.what for finding in out.found)


def test_ids_by_their_digests() -> None:
    """Twice, outside, known: also of none at all."""
    one, other = Ids(), Ids()
    assert one.twice() == set() and one.outside(other) == 0 and one.known(["a"]) == [False] and one.known([]) == []
    for name in ("a", "나", "a"):
        one.add(name)
    assert len(one.twice()) == 1 and one.outside(other) == 3
    other.add("a")
    assert one.outside(other) == 1 and one.known(["나", "b", "a"]) == [True, False, True]
