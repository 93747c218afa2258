"""Whatever happens to a run or to a bundle of it is found: bytes, rows, manifests, archives."""

import copy
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError, UsageError
from pipeline.run import Run
from pipeline.store import Version
from stages.bundle import pack
from stages.bundle_plan import carried
from stages.plan import STAGES, load
from stages.unbundle import unpack
from stages.verify_rows import files, inside
from tests.helpers import write_plan
from tests.stages import whole
from tests.stages.conftest import Workshop
from tests.stages.sealed import current
from tests.stages.whole import edit, problems, rewrite

pytest.importorskip("safetensors")
STAGE = st.sampled_from(STAGES[:2] + STAGES[3:])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A whole run."""
    return whole.make(tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="module", params=["t.tar", "t.tar.gz"])
def bundle(shop: Workshop, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """It as an archive."""
    return pack(shop.path, shop.run, tmp_path_factory.mktemp("bundle") / request.param).file


@contextmanager
def damaged(file: Path, content: bytes) -> Iterator[None]:
    """A file with another content for a while."""
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(whole)


@contextmanager
def copied(shop: Workshop) -> Iterator[Run]:
    """A copy of the run for a while."""
    with tempfile.TemporaryDirectory() as folder:
        yield whole.copied(shop, Path(folder) / "tiny")


def flipped(content: bytes, place: int, bits: int) -> bytes:
    """One byte changed."""
    return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]


@settings(max_examples=60)
@given(st.data())
def test_any_changed_or_missing_byte_of_a_version_is_found(shop: Workshop, data: st.DataObject) -> None:
    """In any file of any version, and the file is named."""
    version = current(shop.run, data.draw(STAGE))
    info = data.draw(st.sampled_from([i for i in files(version) if i.bytes]))
    file = version.path / info.file
    whole, place = file.read_bytes(), data.draw(st.integers(0, info.bytes - 1))
    changed = whole[:place] if data.draw(st.booleans()) else flipped(whole, place, data.draw(st.integers(1, 255)))
    with damaged(file, changed):
        assert any(info.file in problem for problem in problems(shop.run))
    assert problems(shop.run) == []


@settings(max_examples=40)
@given(st.data())
def test_any_row_that_moves_is_found(shop: Workshop, data: st.DataObject) -> None:
    """Left out, doubled, put into another shard or another version; the digests agree with what is there."""
    stages = ["generate", "filter"]
    with copied(shop) as run:
        version = current(run, data.draw(st.sampled_from(stages)))
        shards = [info.file for info in version.manifest.shards]
        name = data.draw(st.sampled_from(shards))
        rows = (version.path / name).read_bytes().splitlines(keepends=True)
        n = data.draw(st.integers(0, len(rows) - 1))
        what = data.draw(st.sampled_from(["left out", "doubled", "moved", "carried over"]))
        if what != "doubled":
            rewrite(version, name, lambda lines: lines[:n] + lines[n + 1 :])
        if what == "doubled":
            rewrite(version, name, lambda lines: [*lines, rows[n]])
        elif what == "moved":
            other = data.draw(st.sampled_from([shard for shard in shards if shard != name]))
            rewrite(version, other, lambda lines: [*lines, rows[n]])
        elif what == "carried over":
            there = current(run, next(s for s in stages if s != version.manifest.stage))
            place = data.draw(st.sampled_from([info.file for info in there.manifest.shards]))
            rewrite(there, place, lambda lines: [*lines, rows[n]])
        assert problems(run)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers and texts of a manifest are."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*place, key))
    elif isinstance(value, str | int | float):
        yield place


FREE = {"usage", "figures", "notes", "environment", "started", "finished"}
"""What nothing follows from."""


@settings(max_examples=80)
@given(st.data())
def test_any_change_of_a_manifest_is_found(shop: Workshop, data: st.DataObject) -> None:
    """Of whatever is not free."""
    version = current(shop.run, data.draw(STAGE))
    file = version.path / "manifest.json"
    manifest = orjson.loads(file.read_bytes())
    place = data.draw(st.sampled_from([p for p in places(manifest) if p[0] not in FREE]))
    assume(place[0] != "files" or place[2] != "rows")  # of no file that is no shard
    assume(place[0] != "ledger" or place[2] != "step")  # a step that drops nothing may be called anything
    assume(place[0] != "inputs" or place[2] != "version")  # a note: what counts is the fingerprint
    node = changed = copy.deepcopy(manifest)
    for part in place[:-1]:
        node = node[part]
    old = node[place[-1]]
    node[place[-1]] = f"{old}x" if isinstance(old, str) else not old if isinstance(old, bool) else old + 1
    with damaged(file, orjson.dumps(changed)):
        assert problems(shop.run), place
    assert problems(shop.run) == []


@settings(max_examples=40)
@given(st.data())
def test_any_missing_file_of_a_version_is_found(shop: Workshop, data: st.DataObject) -> None:
    """A shard or another file deleted, an entry of the manifest, or both together."""
    with copied(shop) as run:
        version = current(run, data.draw(STAGE))
        sort = data.draw(st.sampled_from([s for s in ("shards", "files") if getattr(version.manifest, s)]))
        n = data.draw(st.integers(0, len(getattr(version.manifest, sort)) - 1))
        name = getattr(version.manifest, sort)[n].file
        both = data.draw(st.booleans())
        (version.path / name).unlink()
        if both and sort == "shards":
            edit(version, lambda manifest: manifest[sort].pop(n))
        assert problems(run)


@contextmanager
def elsewhere() -> Iterator[Path]:
    """Another machine for a while."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_RUNS", f"{folder}/runs")
        yield Path(folder)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def unpacked(bundle: Path) -> dict[str, bytes]:
    """What comes out of the whole archive."""
    with elsewhere() as folder:
        unpack(bundle, folder / "plan")
        return tree(folder)


@settings(max_examples=40)
@given(st.data())
def test_a_truncated_archive_is_refused(bundle: Path, unpacked: dict[str, bytes], data: st.DataObject) -> None:
    """Wherever it ends before its last file does; and nothing of it is left."""
    whole = bundle.read_bytes()
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with elsewhere() as folder:
        (folder / "t.tar").write_bytes(part)
        try:
            unpack(folder / "t.tar", folder / "plan")
        except DataError:
            assert list(tree(folder)) == ["t.tar"]
        else:  # what was lost is the padding after the last file
            (folder / "t.tar").unlink()
            assert tree(folder) == unpacked


@settings(max_examples=80)
@given(st.data())
def test_a_changed_archive_is_refused_or_says_the_same(
    bundle: Path, unpacked: dict[str, bytes], data: st.DataObject
) -> None:
    """Any byte changed: either nothing comes out, or what was put in."""
    whole = bundle.read_bytes()
    changed = flipped(whole, data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255)))
    with elsewhere() as folder:
        (folder / "t.tar").write_bytes(changed)
        try:
            unpack(folder / "t.tar", folder / "plan")
        except (DataError, UsageError):
            assert list(tree(folder)) == ["t.tar"]
        else:
            (folder / "t.tar").unlink()
            assert tree(folder) == unpacked


NAME = st.text(st.sampled_from("ab.~/\\ \n가:*-"), max_size=12)


@given(NAME)
def test_a_name_that_is_inside_is_inside(name: str) -> None:
    """Whatever is let through lies in the folder."""
    folder = Path("/tmp/folder")
    if inside(name):
        assert (folder / name).resolve() != folder and (folder / name).resolve().is_relative_to(folder)
        assert str(folder / name) == f"{folder}/{name}"


QUOTES = st.sampled_from(
    ["{}", "'{}'", '"{}"', "  {}", "!!str {}", "&a {}", "&a '{}'   # why", ">-\n      {}", "{}  # 왜"]
)


@settings(max_examples=40)
@given(QUOTES, st.sampled_from(["words 1.txt", "금칙어.txt", "it's.txt", "a-b.txt"]), st.booleans())
def test_only_the_path_changes_in_a_plan(quotes: str, name: str, above: bool) -> None:
    """However it is written: the rest of the text is the same to the letter, and the plan says the same."""
    assume(not ("'" in name and "'" in quotes))
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder).resolve() / "plan"
        there.mkdir()
        write_plan(there)
        file = (there.parent if above else there) / name
        file.write_text("gun\n")
        said = f"../{name}" if above else name
        rule = f"\nfilter:\n  rules:\n  - kind: words\n    banned_file: {quotes.format(said)}\n    name: last\n"
        path = there / "plan.yaml"
        path.write_text(path.read_text() + rule, encoding="utf-8")
        plan = load(path)
        found = carried(path, plan)
        if not above:
            assert found.text == path.read_text(encoding="utf-8") and found.files[name] == file
            return
        (new,) = [n for n in found.files if n.startswith("carried/")]
        before, after = path.read_text(encoding="utf-8").split(said), found.text.split(new)
        assert after[0].rstrip("\"' >-\n") == before[0].rstrip("\"' >-\n")
        assert after[1].lstrip("\"' \n") == before[1].lstrip("\"' \n")
        for inner, source in found.files.items():
            (there.parent / "there" / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, there.parent / "there" / inner)
        (there.parent / "there/plan.yaml").write_text(found.text, encoding="utf-8")
        assert load(there.parent / "there/plan.yaml").settings("filter") == plan.settings("filter")


def test_a_version_is_what_is_tested(shop: Workshop) -> None:
    """The strategies above have something to draw from."""
    assert all(isinstance(current(shop.run, stage), Version) for stage in ("generate", "filter", "train", "evaluate"))
