"""The demo on real models, made small: vLLM teacher and judge, MiniLM, TRL, evaluation; killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest

from pipeline.models import models_home

ROOT = Path(__file__).resolve().parent.parent.parent
PLAN = ROOT / "examples/stories/plan.yaml"
SMALL = [
    "generate.source.count=32",
    "generate.heldout=0.2",
    "generate.truncated=keep",
    "filter.rules.0.min_chars=40",
    "filter.rules.6.min_score=1",
    "curate.keep=12",
    "train.objective.num_train_epochs=2",
    "evaluate.samples=2",
    "evaluate.sampling.max_tokens=24",
]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]


def environment(runs: Path) -> dict[str, str]:
    """The run's folder, the models where they are, and no network."""
    return os.environ | {
        "PIPELINE_RUNS": str(runs),
        "PIPELINE_MODELS": str(models_home().resolve()),
        "HF_HUB_OFFLINE": "1",
    }


def command(*words: str) -> list[str]:
    """A pipeline command over the small plan."""
    verb, *rest = words
    return [sys.executable, "-m", "pipeline", verb, str(PLAN), *(f"--set={s}" for s in SMALL), *rest]


def pipeline(runs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command(*words), env=environment(runs), cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )


def processes_of(runs: Path) -> list[int]:
    """Processes that were started with this runs folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"PIPELINE_RUNS={runs}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, generate to evaluate, that was killed with SIGKILL while the teacher wrote."""
    runs = tmp_path_factory.mktemp("runs")
    killed = subprocess.Popen(command("generate"), env=environment(runs), cwd=ROOT, stderr=subprocess.DEVNULL)
    memo = runs / "stories/memo.sqlite"
    deadline = time.monotonic() + 300
    while remembered(memo) < 5 and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the teacher was done before it could be killed"
    assert processes_of(runs) == []
    assert not list(runs.glob("stories/generate/*/manifest.json"))
    before = remembered(memo)
    done = pipeline(runs, "run", "--json")
    assert done.returncode == 0, done.stderr
    generated = json.loads(done.stdout)[0]
    assert generated["usage"]["remembered"] == before
    assert generated["usage"]["asked"] == 32 - before
    return runs


def remembered(memo: Path) -> int:
    """Completions in the memo, read beside the writer."""
    import sqlite3

    if not memo.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{memo}?mode=ro", uri=True) as db:
            return int(db.execute("select count(*) from completion").fetchone()[0])
    except sqlite3.Error:
        return 0


def manifest(runs: Path, stage: str) -> dict[str, Any]:
    """The manifest of a stage's newest version."""
    newest = sorted((runs / "stories" / stage).glob("*/manifest.json"))[-1]
    found: dict[str, Any] = json.loads(newest.read_text())
    return found


def test_everything_is_done_and_stays_done(finished: Path) -> None:
    """After `run`, every stage is done, and a second run does nothing."""
    status = pipeline(finished, "status", "--json")
    assert [row["state"] for row in json.loads(status.stdout)] == ["done"] * 5
    again = pipeline(finished, "run", "--quiet", "--json")
    assert again.returncode == 0
    assert [v["version"][:4] for v in json.loads(again.stdout)] == ["0001"] * 5


def test_every_row_is_accounted_for(finished: Path) -> None:
    """What a step got is what it kept and what it dropped."""
    for stage in ("generate", "filter", "curate"):
        for tally in manifest(finished, stage)["ledger"]:
            assert tally["came"] == tally["kept"] + sum(tally["dropped"].values()), (stage, tally)
    assert manifest(finished, "generate")["ledger"][0]["came"] == 32


def test_loaders_read_all_shards_together(finished: Path) -> None:
    """datasets, DuckDB and Polars read the shards of all stages at once."""
    import datasets

    files = str(finished / "stories/*/*/kept-*.jsonl")
    rows = sum(manifest(finished, stage)["counts"]["kept"] for stage in ("generate", "filter", "curate"))
    loaded = datasets.load_dataset("json", data_files=files, cache_dir=str(finished / "cache"), split="train")
    assert len(loaded) == rows
    assert duckdb.execute(f"select count(*) from read_json_auto('{files}')").fetchall() == [(rows,)]
    assert len(polars.read_ndjson(files)) == rows


def test_the_student_learnt(finished: Path) -> None:
    """Held-out perplexity: teacher under trained student, far under untrained student."""
    models = {m["model"]: m for m in manifest(finished, "evaluate")["figures"]["models"]}
    assert models["trained"]["perplexity"] < 0.2 * models["untrained"]["perplexity"]
    assert models["teacher"]["perplexity"] < models["trained"]["perplexity"]
    assert models["trained"]["parameters"] < 0.4 * models["teacher"]["parameters"]
    assert models["trained"]["peak_memory"] > 4 * models["trained"]["parameters"]


def test_heldout_rows_never_reach_training(finished: Path) -> None:
    """No held-out record is among the rows the trainer read."""
    heldout = {r["id"] for f in finished.glob("stories/*/*/heldout-*.jsonl") for r in map(json.loads, f.open())}
    (rows,) = finished.glob("stories/train/*/rows.jsonl")
    trained = {row["id"] for row in map(json.loads, rows.open())}
    assert heldout and trained
    assert not heldout & trained


def test_a_threshold_costs_no_tokens(finished: Path) -> None:
    """Filtering again with another threshold asks the judge nothing, keeps the old version, marks the rest stale."""
    again = pipeline(finished, "filter", "--json", "--set=filter.rules.0.min_chars=300")
    assert again.returncode == 0, again.stderr
    made = json.loads(again.stdout)[0]
    assert made["usage"].get("asked", 0) == 0
    assert made["version"].startswith("0002-")
    status = {row["stage"]: row["state"] for row in json.loads(pipeline(finished, "status", "--json").stdout)}
    assert status["generate"] == "done"
    assert status["filter"] == "differs"
    assert {status["curate"], status["train"], status["evaluate"]} == {"stale"}
    back = pipeline(finished, "filter", "--json")
    assert json.loads(back.stdout)[0]["version"].startswith("0001-")


def test_sigterm_leaves_no_process_and_no_version(tmp_path: Path) -> None:
    """SIGTERM while the teacher writes: exit 143, a word on how to go on, no orphan, nothing that looks done."""
    child = subprocess.Popen(
        command("generate"), env=environment(tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while remembered(tmp_path / "stories/memo.sqlite") < 1 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143, said
    assert "goes on from there" in said
    assert processes_of(tmp_path) == []
    assert not list(tmp_path.glob("stories/generate/*/manifest.json"))


def test_an_ablation_is_killed_and_goes_on(finished: Path) -> None:
    """The plan's own student is taken over; after kill -9 whoever is measured stays measured; the report shows it."""
    own = ["ablate.seeds=1", "ablate.rows=null", "ablate.arms=[filtered]", "ablate.variants={}"]
    words = ["ablate", *(f"--set={place}" for place in own)]
    students = finished / "stories/ablate/students"
    killed = subprocess.Popen(command(*words), env=environment(finished), cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not list(students.glob("*/measured-*.json")) and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the ablation was done before it could be killed"
    measured = {file: file.stat().st_mtime_ns for file in students.glob("*/measured-*.json")}
    assert measured
    done = pipeline(finished, *words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(file.stat().st_mtime_ns == moment for file, moment in measured.items())
    assert [(arm["arm"], arm["rows"]) for arm in found["figures"]["arms"]] == [("filtered", 12), ("curated", 12)]
    metrics = {row["metric"] for row in found["figures"]["contrasts"]}
    assert {"perplexity", "rouge_l", "judge_score"} <= metrics
    version = finished / "stories/ablate" / found["version"]
    taken = [json.loads(line).get("train_version", "") for line in (version / "scores.jsonl").read_text().splitlines()]
    assert taken == ["", manifest(finished, "train")["version"]]
    assert (version / "contrasts.svg").read_bytes().startswith(b"<?xml")
    assert pipeline(finished, "verify").returncode == 0
    page = Path(pipeline(finished, "report").stdout.strip()).read_text(encoding="utf-8")
    assert "What each choice brought" in page and "curated against filtered" in page
