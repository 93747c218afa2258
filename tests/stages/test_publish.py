"""push: what is shown is what goes, licences are kept, and the token is told to nobody but the Hub."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.records import MadeBy
from pipeline.run import Run
from stages import publish
from stages.card_files import Want
from stages.plan import Plan, load
from stages.publish import Options
from tests.helpers import record, write_plan
from tests.stages.hub import hub
from tests.stages.sealed import GOLDEN, golden, seal, student

ROOT = Path(__file__).resolve().parents[2]
PLAN = str(GOLDEN / "preference/plan.yaml")
SECRET = "hf_notToBeTold"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run lies, with a student; tests read it only."""
    home = tmp_path_factory.mktemp("runs")
    _, run = golden("preference", home)
    student(run)
    return home


@pytest.fixture
def finished(whole: Path) -> tuple[Plan, Run]:
    plan = load(Path(PLAN))
    return plan, Run(whole / plan.name)


def command(home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`pipeline` in a process of its own, where the Hub is not switched off."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE"))}
    own |= {"PYTHONPATH": str(ROOT), "PIPELINE_RUNS": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words], env=own | env, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_dry_run_shows_what_is_sent(whole: Path) -> None:
    """The files that --dry-run lists, byte for byte, are those that arrive; nothing else is asked for before."""
    words = ("push", PLAN, "--dataset", "me/pairs", "--model", "me/small", "--json", "--private")
    with hub(there=("data/train-00007.jsonl", "notes.md")) as there:
        shown = json.loads(command(whole, *words, "--dry-run", HF_ENDPOINT=there.url).stdout)
        assert there.asked == []
        done = command(whole, *words, HF_ENDPOINT=there.url, HF_TOKEN=SECRET)
        assert done.returncode == 0, done.stderr
    arrived = {"dataset": there.files["datasets/me/pairs"], "model": there.files["models/me/small"]}
    assert [parcel["kind"] for parcel in shown] == ["dataset", "model"]
    for parcel in shown:
        sizes = {file["path"]: file["bytes"] for file in parcel["files"]}
        assert sizes == {path: len(content) for path, content in arrived[parcel["kind"]].items()}
        assert arrived[parcel["kind"]]["README.md"].decode() == parcel["card"]
    assert set(arrived["dataset"]) == {"README.md", "croissant.json", "data/train-00000.jsonl"}
    assert set(arrived["model"]) == {"README.md", "config.json", "model.safetensors"}, "no pickle, no other card"
    assert all(json.loads(row)["split"] == "train" for row in arrived["dataset"]["data/train-00000.jsonl"].splitlines())
    assert there.deleted == {"datasets/me/pairs": ["data/train-00007.jsonl"]}, "of an earlier push"
    assert {(made["type"], made["visibility"]) for made in there.made if "type" in made} >= {("dataset", "private")}
    assert there.messages[0].startswith("golden-preference: filter 0001-")
    assert json.loads(done.stdout)[0]["url"] == f"{there.url}/datasets/me/pairs"
    assert "datasets:\n- me/pairs" in arrived["model"]["README.md"].decode()


def test_the_token_goes_to_the_hub_alone(whole: Path) -> None:
    """It stands in no output, not even where the Hub refuses; one that lies elsewhere is not used."""
    words = ("push", PLAN, "--dataset", "me/pairs")
    with hub(refuses=True) as there:
        refused = command(whole, *words, HF_ENDPOINT=there.url, HF_TOKEN=SECRET)
    assert refused.returncode == 1 and "me/pairs: " in refused.stderr and "HF_TOKEN may write there" in refused.stderr
    assert f"Bearer {SECRET}" in there.tokens and "Traceback" not in refused.stderr
    (whole / "token").write_text(SECRET)
    with hub() as there:
        without = command(whole, *words, HF_ENDPOINT=there.url)
    assert without.returncode == 2 and "HF_TOKEN is not set" in without.stderr and there.asked == []
    nobody = command(whole, *words, HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN=SECRET)
    assert nobody.returncode == 1 and "me/pairs: " in nobody.stderr and "Traceback" not in nobody.stderr
    for done in (refused, without, nobody):
        assert SECRET not in done.stdout + done.stderr


def test_private_is_never_public(whole: Path) -> None:
    """Where the repository is there and open, nothing is sent."""
    with hub(private=False) as there:
        done = command(whole, "push", PLAN, "--dataset", "me/x", "--private", HF_ENDPOINT=there.url, HF_TOKEN=SECRET)
    assert done.returncode == 1 and "everybody can read it; nothing was sent" in done.stderr
    assert there.files == {} and not any("/commit/" in asked for asked in there.asked)


def test_other_rows_go_where_they_are_asked_for(finished: tuple[Plan, Run]) -> None:
    """Held-out rows, dropped ones and pairs, each by its own word."""

    def paths(**want: bool) -> set[str]:
        with publish.assembled(*finished, Options(dataset="me/x", want=Want(**want))) as (parcel,):
            return {file.path for file in parcel.files()} - {"README.md", "croissant.json", "data/train-00000.jsonl"}

    assert paths() == set()
    assert paths(heldout=True) == {"data/heldout-00000.jsonl"}
    assert paths(dropped=True) == {"data/dropped-generate-00000.jsonl", "data/dropped-filter-00000.jsonl"}
    assert paths(pairs=True) == {"data/pairs-train-00000.jsonl"}


def test_the_folder_is_gone_afterwards(finished: tuple[Plan, Run]) -> None:
    """Nothing stays behind, and the versions are as they were."""
    before = {path: path.read_bytes() for path in finished[1].path.rglob("*.jsonl")}
    with publish.assembled(*finished, Options(dataset="me/x", model="me/y")) as parcels:
        folders = [parcel.folder for parcel in parcels]
        assert all(folder.is_dir() for folder in folders)
    assert not any(folder.exists() for folder in folders)
    assert {path: path.read_bytes() for path in finished[1].path.rglob("*.jsonl")} == before


def test_a_damaged_shard_is_not_published(finished: tuple[Plan, Run], tmp_path: Path) -> None:
    """Files are checked against their manifest on the way."""
    plan, run = finished
    shutil.copytree(run.path, tmp_path / run.path.name)
    copy = Run(tmp_path / run.path.name)
    (weights,) = copy.path.glob("train/*/model/model.safetensors")
    weights.write_bytes(b"other weights")
    with (
        pytest.raises(DataError, match="does not match its manifest"),
        publish.assembled(plan, copy, Options(model="me/x")),
    ):
        pass


def tainted(tmp_path: Path, **made_by: str) -> tuple[Plan, Run]:
    """A run whose teacher has terms."""
    write_plan(tmp_path)
    run = Run(tmp_path / "runs/tiny")
    seal(run, "filter", [record(made_by=MadeBy(engine="openai", **made_by))])
    return load(tmp_path / "plan.yaml"), run


def test_a_conflict_of_licences_is_refused(tmp_path: Path) -> None:
    """It is said which; --licence-checked overrides it, and the card keeps saying it."""
    plan, run = tainted(tmp_path, model="gpt-4o")
    options = Options(dataset="me/x")
    with publish.assembled(plan, run, options) as parcels:
        with pytest.raises(PipelineError, match="teacher gpt-4o is under openai-terms") as raised:
            publish.refuse(parcels, options)
        assert "--licence-checked" in str(raised.value)
        publish.refuse(parcels, options._replace(licence_checked=True))
        assert "**Conflicts:**" in parcels[0].card


def test_a_dry_run_is_refused_as_the_real_one(tmp_path: Path) -> None:
    """What would go is shown first; the exit code is that of the real thing."""
    tainted(tmp_path, model="teacher", licence="cc-by-nc-4.0")
    words = ("push", str(tmp_path / "plan.yaml"), "--dataset", "me/x", "--dry-run")
    done = command(tmp_path / "runs", *words)
    assert done.returncode == 1 and "data/train-00000.jsonl" in done.stdout
    assert "license: cc-by-nc-4.0" in done.stdout and "nobody may use it" in done.stderr
    assert command(tmp_path / "runs", *words, "--licence-checked").returncode == 0


def test_a_llama_needs_its_name(finished: tuple[Plan, Run], tmp_path: Path) -> None:
    """A student of a Llama is called so, or is not published."""
    plan, run = finished
    shutil.copytree(run.path, tmp_path / run.path.name)
    copy = Run(tmp_path / run.path.name)
    student(copy, base="meta-llama/Llama-3.2-1B")
    for repo, conflicts in (("me/small", 1), ("me/Llama-small", 0)):
        with publish.assembled(plan, copy, Options(model=repo)) as (parcel,):
            assert len(parcel.chain.conflicts) == conflicts
            assert "Built with Llama" in parcel.card


def test_unknown_licences_are_named(finished: tuple[Plan, Run]) -> None:
    """They are no conflict, and they are said aloud."""
    with publish.assembled(*finished, Options(dataset="me/x")) as (parcel,):
        publish.refuse([parcel], Options())
        assert any("seeds preference/seeds.jsonl: no licence is said" in note for note in parcel.notes)


@pytest.mark.parametrize("repo", ["stories", "a/b/c", "a--b/c", "a/b c"])
def test_a_repository_has_an_owner(repo: str) -> None:
    """What the Hub would not take is refused before anything is read."""
    with pytest.raises(UsageError, match=repo.split("/", maxsplit=1)[0]):
        publish.check_repo(repo)


def test_something_has_to_go(finished: tuple[Plan, Run]) -> None:
    """Neither a data set nor a model is a mistake."""
    with pytest.raises(UsageError, match="--dataset OWNER/NAME"), publish.assembled(*finished, Options()):
        pass
