"""bundle and unbundle: a run in another place, on another machine, goes on as if it had always been there."""

import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from pipeline import console
from pipeline.engines import Completion, Request
from pipeline.errors import DataError, UsageError
from pipeline.run import Run
from stages import checks, flow
from stages.bundle import Contents, Packed, pack
from stages.plan import load
from stages.unbundle import Unpacked, unpack
from tests.helpers import record, stub_model, write_plan
from tests.stages import whole
from tests.stages.conftest import Workshop
from tests.stages.sealed import current

pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A whole run, which no test changes."""
    return whole.make(tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="module")
def bundle(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It in one file."""
    return pack(shop.path, shop.run, tmp_path_factory.mktemp("bundle") / "tiny.tar.gz").file


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine: its runs are elsewhere."""
    monkeypatch.setenv("PIPELINE_RUNS", str(tmp_path / "there/runs"))
    return tmp_path / "there"


def states(done: Unpacked) -> set[str]:
    """What is said of the stages."""
    return {state for _, state in done.states}


def test_a_run_goes_on_elsewhere(shop: Workshop, bundle: Path, there: Path) -> None:
    """All is up to date; another threshold makes a new version without one question to the teacher."""
    write_plan(there / "any")  # a model by the same name
    done = unpack(bundle, there / "plan")
    assert done.plan == there / "plan/plan.yaml" and done.run == there / "runs/tiny"
    assert (done.models, done.warnings) == ([], [])
    plan, run = load(done.plan), Run(done.run)
    stages = [name for name, _ in done.states]
    assert stages == ["generate", "filter"] and states(done) == {"up to date"}
    assert [row.would for row in checks.examine(plan, run).rows] == ["up to date"] * 2
    for stage in ("generate", "filter", "train", "evaluate"):
        assert tree(current(run, stage).path) == tree(current(shop.run, stage).path)
    (there / "plan/recording.jsonl").write_bytes((shop.folder / "recording.jsonl").read_bytes().splitlines()[0])
    (version,) = flow.run_stages(load(done.plan, ("filter.rules.1.min_score=4",)), run, ["filter"], flow.Options())
    assert version.name.startswith("0002-") and version.manifest.counts["kept"]
    assert version.manifest.usage["remembered"] and "asked" not in version.manifest.usage


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_content_gives_the_same_bytes(shop: Workshop, bundle: Path, tmp_path: Path) -> None:
    """Whenever it is packed, and wherever the run lies; and again from what was unpacked."""
    shutil.copytree(shop.run.path, tmp_path / "elsewhere/tiny")
    for file in (tmp_path / "elsewhere").rglob("*"):
        os.utime(file, (1, 1))
    again = pack(shop.path, Run(tmp_path / "elsewhere/tiny"), tmp_path / "other.tar.gz")
    assert again.file.read_bytes() == bundle.read_bytes()
    with tarfile.open(bundle) as archive:
        names = archive.getnames()
        assert names[0] == "bundle.json" and names[1:] == sorted(names[1:])
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in archive} == {(0, 0, 0, "", 0o644)}


def test_without_the_memo_everything_is_asked_again(shop: Workshop, there: Path, tmp_path: Path) -> None:
    """The versions are whole; the note says what is missing."""
    packed = pack(shop.path, shop.run, tmp_path / "small.tar", memo=False)
    assert "asked again" in packed.contents.notes[0]
    done = unpack(packed.file, there / "plan")
    assert states(done) == {"up to date"} and not (done.run / "memo.sqlite").exists()


def test_older_versions_stay_behind(shop: Workshop, there: Path, tmp_path: Path) -> None:
    """Those that nothing current was made from; the note names them."""
    run = whole.copied(shop, tmp_path / "tiny")
    for stage in ("train", "evaluate"):
        shutil.rmtree(run.path / stage)
    (run.path / "lock.json").unlink()
    old = run.versions("filter")[0]
    flow.run_stages(shop.plan("filter.rules.1.min_score=3"), run, ["generate", "filter"], flow.Options())
    packed = pack(shop.path, run, tmp_path / "t.tar")
    assert packed.contents.notes == [f"older versions stayed behind: filter/{old.name}"]
    done = unpack(packed.file, there / "plan")
    assert [v.split("/")[0] for v in done.verified.versions] == ["generate", "filter"]
    assert done.states[1][1].startswith("differs: filter.rules.1.min_score: 3")


FUNCTION = "def fine(record):\n    return True\n"


@pytest.fixture
def scattered(tmp_path: Path, recorded: Callable[..., None], workshop: Workshop) -> Workshop:
    """A plan whose files lie in its folder, beside it, and at full paths; with comments and Korean names."""
    outside = tmp_path.parent / f"{tmp_path.name}-밖"
    outside.mkdir()
    (outside / "질문.jsonl").write_text(
        '{"prompt": "Tell me about number 1."}\n{"prompt": "Tell me about number 2."}\n'
    )
    (outside / "words.txt").write_text("gun\n")
    (outside / "check.py").write_text(FUNCTION)
    (outside / "items.txt").write_text("nobody says these many words one after the other here\n")
    workshop.rubric("first")
    (workshop.folder / "lists").mkdir()
    (workshop.folder / "lists/words.txt").write_text("blood\n")
    relative = os.path.relpath(outside, workshop.folder)
    workshop.path.write_text(
        f"""\
# A plan that somebody wrote by hand.
name: tiny
seed: 3
teacher: {{kind: replay, model: "{workshop.folder / "model"}", recording: recording.jsonl}}
generate:
  source: {{kind: jsonl, path: '{outside}/질문.jsonl'}}   # the questions
  task: {{kind: respond}}
  heldout: 0.0
filter:
  rules:
    - kind: words
      banned_file: &list {relative}/words.txt
    - {{kind: words, name: again, banned_file: *list}}
    - {{kind: words, name: own, banned_file: ./lists/words.txt}}
    - {{kind: leak, references: [{outside}/items.txt]}}
    - {{kind: python, function: "{relative}/check.py:fine"}}
    - {{kind: judge, prompt: first.md, min_score: 1}}
    - {{kind: judge, name: bundled, prompt: judge/story, min_score: 1}}
""",
        encoding="utf-8",
    )
    recorded("generate", "filter", script=lambda request: whole.says(request) if not request.choices else five(request))
    workshop.make("generate", "filter")
    return workshop


def five(request: Request) -> Completion:
    """A judge who likes everything."""
    return Completion(text="5", completion_tokens=1)


def test_files_from_everywhere_go_along(scattered: Workshop, there: Path, tmp_path: Path) -> None:
    """Those in the plan's folder keep their places, the others come to lie in it; only their paths change."""
    packed = pack(scattered.path, scattered.run, tmp_path / "t.tar.gz")
    before = scattered.path.read_text(encoding="utf-8")
    for gone in (scattered.folder / "lists", Path(f"{tmp_path}-밖")):
        shutil.rmtree(gone)
    done = unpack(packed.file, there / "plan")
    assert states(done) == {"up to date"}, done.states
    assert "runs Python of its own; read it" in done.warnings[0] and "check.py:fine" in done.warnings[0]
    after = done.plan.read_text(encoding="utf-8")
    assert str(tmp_path.parent) not in after.replace(str(tmp_path / "model"), "")
    assert [a.split("#")[1:] for a in after.splitlines()] == [b.split("#")[1:] for b in before.splitlines()]
    assert 'banned_file: &list "carried/' in after and "banned_file: *list" in after
    assert "./lists/words.txt" in after and "prompt: first.md" in after and "prompt: judge/story" in after
    names = sorted(p.relative_to(there / "plan").as_posix() for p in (there / "plan").rglob("*") if p.is_file())
    assert [n.split("/", 2)[2] for n in names if n.startswith("carried/")] == sorted(
        ["words.txt", "items.txt", "check.py", "질문.jsonl"], key=lambda n: next(x for x in names if x.endswith(n))
    )
    assert [n for n in names if not n.startswith("carried/")] == [
        "first.md", "lists/words.txt", "plan.yaml", "recording.jsonl",
    ]  # fmt: skip


def test_what_was_unpacked_packs_to_the_same(scattered: Workshop, there: Path, tmp_path: Path) -> None:
    """A bundle of a bundle is the bundle."""
    first = pack(scattered.path, scattered.run, tmp_path / "a.tar")
    done = unpack(first.file, there / "plan")
    carried = yaml.safe_load(done.plan.read_text())["generate"]["source"]["path"]
    second = pack(done.plan, Run(done.run), tmp_path / "b.tar")
    assert carried in {m.path.removeprefix("plan/") for m in second.contents.members}
    assert second.contents == first.contents
    assert second.file.read_bytes() == first.file.read_bytes()


@pytest.mark.parametrize("said", ["docs", "docs/**/*.md", "{outside}", "{outside}/**/*.md", "*.md", "{outside}/a.md"])
def test_documents_go_along(workshop: Workshop, tmp_path: Path, there: Path, said: str) -> None:
    """A folder, a glob or a file of documents is read as the same documents elsewhere."""
    outside = tmp_path.parent / f"{tmp_path.name}-docs"
    for folder in (outside, workshop.folder / "docs", workshop.folder):
        (folder / "내부").mkdir(parents=True, exist_ok=True)
        (folder / "a.md").write_text("# A\n\nAbout a fox.\n")
        (folder / "내부/b.md").write_text("# B\n\nAbout a bear.\n")
        (folder / "c.csv").write_text("not,a,document\n")
    prompt = "---\nabout: A question.\nneeds: [text]\n---\n>>> user\nTell me about number 3. {{ text }}\n"
    Path(f"{tmp_path}-ask.md").write_text(prompt)
    generate = {
        "source": {"kind": "documents", "path": said.format(outside=outside)},
        "task": {"kind": "template", "prompt": f"{tmp_path}-ask.md"},
    }
    write_plan(workshop.folder, generate=generate)
    whole.seal(workshop.run, "evaluate", [], {})
    before = flow.expected(workshop.plan())
    packed = pack(workshop.path, workshop.run, tmp_path / "t.tar")
    shutil.rmtree(outside)
    done = unpack(packed.file, there / "plan")
    assert flow.expected(load(done.plan)) == before
    assert not any(m.path.endswith(".csv") for m in packed.contents.members)


def test_earlier_runs_go_along(
    workshop: Workshop, tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay's source, named as a run, as a folder or as a file, is a folder or a file of the bundle."""
    monkeypatch.setenv("PIPELINE_RUNS", str(tmp_path / "runs"))
    earlier = whole.seal(Run(tmp_path / "runs/earlier"), "curate", [], {"map.svg": b"<svg/>"})
    (tmp_path / "rows.jsonl").write_bytes(record().line())
    sources = ["earlier", str(earlier.path), f"{tmp_path}/rows.jsonl"]
    replay = [{"source": source, "share": 0.1} for source in sources]
    stub_model(workshop.folder / "embedder")
    curate = {"keep": 3, "embed": {"model": str(workshop.folder / "embedder")}, "replay": replay}
    write_plan(workshop.folder, curate=curate)
    whole.seal(workshop.run, "evaluate", [], {})
    before = flow.expected(workshop.plan())
    packed = pack(workshop.path, workshop.run, tmp_path / "t.tar")
    monkeypatch.setenv("PIPELINE_RUNS", str(there / "runs"))
    shutil.rmtree(tmp_path / "runs/earlier")
    done = unpack(packed.file, there / "plan")
    assert flow.expected(load(done.plan)) == before
    assert all(s["source"].startswith("carried/") for s in yaml.safe_load(done.plan.read_text())["curate"]["replay"])


def test_a_file_that_rows_came_from_goes_along(shop: Workshop, there: Path, tmp_path: Path) -> None:
    """--input takes it from the bundle, and its version is up to date."""
    run = whole.copied(shop, tmp_path / "tiny")
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"".join(record(f"Answer number {n}, long.", id=f"r{n}").line() for n in range(3)))
    rules = ("filter.rules=[{kind: length}]", "filter.pairs=null")
    flow.run_stages(shop.plan(*rules), run, ["filter"], flow.Options(input=str(file)))
    packed = pack(shop.path, run, tmp_path / "t.tar")
    (note,) = [n for n in packed.contents.notes if "--input" in n]
    done = unpack(packed.file, there / "plan")
    name = note.split(": ")[0].split("now ")[1]
    options = flow.Options(input=str(there / "plan" / name))
    (version,) = flow.run_stages(load(done.plan, rules), Run(done.run), ["filter"], options)
    assert version.name == current(run, "filter").name


def test_models_stay_behind_and_are_named(workshop: Workshop, there: Path, tmp_path: Path) -> None:
    """What the other machine has not, or has otherwise, is said."""
    student, embedder = (stub_model(tmp_path / name) for name in ("student", "embedder"))
    write_plan(
        workshop.folder,
        curate={"keep": 3, "embed": {"model": str(embedder)}},
        train={"student": {"model": str(student)}, "objective": {"kind": "sft"}},
    )
    whole.seal(workshop.run, "train", [], {})
    packed = pack(workshop.path, workshop.run, tmp_path / "t.tar")
    assert [needed.model for needed in packed.contents.models] == [str(embedder), str(student)]
    shutil.rmtree(student)
    done = unpack(packed.file, there / "plan")
    assert len(done.models) == 1 and f"no config.json in {student}" in done.models[0]
    assert done.warnings == ["what is up to date can be said once the models are here"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("t.zip", "has to end in .tar.gz or .tar"), ("none/t.tar", "there is no folder"), ("there.tar", "there already")],
)
def test_a_place_that_will_not_do_is_refused(shop: Workshop, tmp_path: Path, name: str, says: str) -> None:
    """Nothing is overwritten, and nothing is guessed."""
    (tmp_path / "there.tar").write_text("mine")
    with pytest.raises(UsageError, match=says):
        pack(shop.path, shop.run, tmp_path / name)
    assert (tmp_path / "there.tar").read_text() == "mine"


def test_a_damaged_run_is_not_bundled(shop: Workshop, tmp_path: Path) -> None:
    """Nobody takes along what is not whole; and nothing of the file is left."""
    run = whole.copied(shop, tmp_path / "tiny")
    (current(run, "filter").path / "kept-00000.jsonl").unlink()
    with pytest.raises(DataError, match=r"kept-00000\.jsonl: is missing"):
        pack(shop.path, run, tmp_path / "t.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_a_bundle_that_cannot_be_finished_leaves_nothing(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name appears when the file is whole."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    def pack_to(folder: Path) -> Packed:
        with monkeypatch.context() as patch:
            patch.setattr("stages.bundle._add", full)
            return pack(shop.path, shop.run, folder / "t.tar")

    with pytest.raises(OSError, match="No space left"):
        pack_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(bundle: Path, there: Path) -> None:
    """A run of that name, a folder that holds something; an empty one will do."""
    (there / "plan").mkdir(parents=True)
    (there / "runs/tiny").mkdir(parents=True)
    (there / "runs/tiny/mine").write_text("mine")
    with pytest.raises(UsageError, match=r"runs/tiny is there already") as caught:
        unpack(bundle, there / "plan")
    assert "PIPELINE_RUNS" in caught.value.hint
    (there / "runs/tiny/mine").unlink()
    (there / "plan/mine").write_text("mine")
    with pytest.raises(UsageError, match="plan is there already"):
        unpack(bundle, there / "plan")
    (there / "plan/mine").unlink()
    with pytest.raises(UsageError, match="name another folder for the plan"):
        unpack(bundle, there / "runs/tiny")
    with pytest.raises(UsageError, match="there is no file"):
        unpack(there / "none.tar", there / "plan")
    assert unpack(bundle, there / "plan").states
    assert sorted(p.name for p in there.rglob(".*")) == []


def test_a_disk_that_is_too_small_is_said_first(bundle: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is known before anything is unpacked."""
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 10}))
    with pytest.raises(UsageError, match="MiB free, and the bundle takes"):
        unpack(bundle, there / "plan")


def test_a_run_that_was_damaged_before_is_not_taken(shop: Workshop, there: Path, tmp_path: Path) -> None:
    """A bundle that agrees with itself, of a run that does not."""
    file = tmp_path / "t.tar"
    pack(shop.path, shop.run, file)
    with tarfile.open(file) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    name = next(n for n in members if "filter" in n and "kept-" in n)
    members[name] = b"".join(members[name].splitlines(keepends=True)[1:])
    with pytest.raises(DataError, match=r"the run in .* is not whole: filter/.*bytes, and its manifest says"):
        unpack(forged(tmp_path / "forged.tar", members), there / "plan")
    nothing_left(there)


def forged(file: Path, members: dict[str, bytes]) -> Path:
    """A bundle that agrees with itself, of these members."""
    contents = orjson.loads(members.pop("bundle.json"))
    contents["members"] = [
        {"path": n, "bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in members.items()
    ]
    with tarfile.open(file, "w") as archive:
        for name, content in ({"bundle.json": orjson.dumps(contents)} | members).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def nothing_left(there: Path) -> None:
    """No file came out of the archive."""
    assert [p for p in there.rglob("*") if p.is_file()] == []


PLAN = b"name: tiny\n"


def contents(*paths: str, **more: Any) -> bytes:
    """The first member of a bundle with one file of two bytes by each of these names."""
    members = [{"path": "plan/plan.yaml", "bytes": len(PLAN), "sha256": hashlib.sha256(PLAN).hexdigest()}]
    members += [{"path": p, "bytes": 2, "sha256": hashlib.sha256(b"hi").hexdigest()} for p in paths]
    return orjson.dumps({"format": 1, "pipeline": "0", "plan": "tiny", "members": members} | more)


def archive(file: Path, first: bytes, *members: tuple[str, bytes, bytes]) -> Path:
    """An archive made by hand: name, content and type of every member after the first two."""
    with tarfile.open(file, "w") as made:
        for name, content, sort in (
            ("bundle.json", first, tarfile.REGTYPE), ("plan/plan.yaml", PLAN, tarfile.REGTYPE), *members,
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.size = sort, len(content)
            info.linkname = "/etc/passwd" if sort in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            made.addfile(info, io.BytesIO(content))
    return file


@pytest.mark.parametrize(
    "name",
    ["/etc/evil", "../evil", "run/../../evil", "plan/../evil", "run/./evil", "run//evil", "evil", "run", "plan",
     "run\\evil", "run/a\x00b", "run/a\nb", "other/evil", "plan/plan.yaml/evil", "", "run/..", "~/evil", "C:/evil"],
)  # fmt: skip
def test_names_that_leave_are_refused(tmp_path: Path, there: Path, name: str) -> None:
    """Before one byte is unpacked."""
    file = archive(tmp_path / "t.tar", contents(name), (name.replace("\x00", ""), b"hi", tarfile.REGTYPE))
    with pytest.raises(DataError, match="nothing is unpacked"):
        unpack(file, there / "plan")
    nothing_left(there)


@pytest.mark.parametrize("sort", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
                                  tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE])  # fmt: skip
def test_only_plain_files_are_unpacked(tmp_path: Path, there: Path, sort: bytes) -> None:
    """No link, no device, no folder, whatever the list of contents says."""
    body = b"hi" if sort == tarfile.CONTTYPE else b""
    made = archive(tmp_path / "t.tar", contents("run/a").replace(b'"bytes":2', b'"bytes":%d' % len(body)),
                   ("run/a", body, sort))  # fmt: skip
    with pytest.raises(DataError, match=r"in the place of|is no bundle"):
        unpack(made, there / "plan")
    nothing_left(there)
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("first", "members", "says"),
    [
        (contents("run/a"), [], "ends before run/a"),
        (contents("run/a"), [("run/b", b"hi", b"0")], "holds 'run/b' in the place of run/a"),
        (contents("run/a"), [("run/a", b"hello", b"0")], "in the place of run/a"),
        (contents("run/a"), [("run/a", b"ho", b"0")], "its sha256 differs"),
        (contents("run/a"), [("run/a", b"hi", b"0"), ("run/b", b"hi", b"0")], "more than it announces"),
        (contents("run/a", "run/a"), [("run/a", b"hi", b"0")] * 2, "holds a file twice"),
        (contents(plan="../x"), [], "cannot be read"),
        (contents(plan="a/b"), [], "cannot be read"),
        (contents(format=2), [], "has format 2; this release reads 1"),
        (contents(format="x"), [], "cannot be read"),
        (contents(plan="other"), [], "holds the run 'other', and its plan is called 'tiny'"),
        (contents(members=[]), [], "no plan"),
        (b"{", [], "cannot be read"),
        (b"\xff", [], "cannot be read"),
    ],
)
def test_what_is_not_announced_is_refused(
    tmp_path: Path, there: Path, first: bytes, members: list[tuple[str, bytes, bytes]], says: str
) -> None:
    """The list of contents is the law, once it is one."""
    with pytest.raises(DataError, match=says):
        unpack(archive(tmp_path / "t.tar", first, *members), there / "plan")
    nothing_left(there)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b", b"\x1f\x8b\x08" + b"\x00" * 600, b"\x00" * 2048])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, there: Path, content: bytes) -> None:
    """With one message."""
    file = tmp_path / "t.tar.gz"
    file.write_bytes(content)
    with pytest.raises(DataError, match="is no bundle"):
        unpack(file, there / "plan")


@pytest.mark.parametrize("sort", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_a_bomb_is_not_unpacked(tmp_path: Path, there: Path, sort: bytes) -> None:
    """A header of gigabytes, which packs into megabytes, is not taken into memory."""
    info = tarfile.TarInfo("bundle.json")
    info.type, info.size = sort, 1 << 32
    file = tmp_path / "t.tar.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        packed.write(info.tobuf())
        for _ in range(64):
            packed.write(b"\0" * (1 << 20))
    with pytest.raises(DataError, match="is no bundle"):
        unpack(file, there / "plan")


def test_notes_and_sizes_are_told(shop: Workshop, there: Path, tmp_path: Path, capsys: Any) -> None:
    """The size before unpacking; what is in it, as data."""
    packed = pack(shop.path, shop.run, tmp_path / "t.tar")
    assert Contents.model_validate(packed.contents.model_dump()) == packed.contents
    assert packed.bytes == packed.file.stat().st_size > packed.contents.bytes
    console.set_quiet(False)
    unpack(packed.file, there / "plan")
    assert "MiB unpacked" in capsys.readouterr().err
