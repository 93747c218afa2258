"""The demo teacher in the real vLLM, with a student of one layer less as its draft."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import models_home
from pipeline.run import Run
from tests.e2e.test_demo import ROOT, environment
from tests.helpers import record, write_plan
from tests.stages.sealed import seal

TEACHER = "demo:smollm2-135m-instruct"
ROWS, TOKENS, LONGEST = 3, 3, 20

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What `pipeline speculate --json` says, and the run's folder."""
    from stages.student import load

    folder = tmp_path_factory.mktemp("speculate")
    plan = write_plan(folder, teacher={"kind": "vllm", "model": TEACHER, "max_model_len": 256, "max_num_seqs": 8})
    run = folder / "runs/tiny"
    asked = [record("Well.", id=f"r{n}", prompt=f"Tell me a story about {n} foxes.", split="heldout") for n in range(6)]
    seal(Run(run), "generate", asked)
    version = seal(Run(run), "train")
    student, tokenizer = load(TEACHER, layers=[n for n in range(30) if n != 15])
    for one in (student, tokenizer):
        one.save_pretrained(version.path / "model")
    options = [f"--rows={ROWS}", f"--tokens={TOKENS}", f"--max-tokens={LONGEST}"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "speculate", str(plan), "--json", *options],
        env=environment(folder / "runs"), cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), run


def test_the_draft_changes_no_answer(measured: tuple[dict[str, Any], Path]) -> None:
    """In float32 greedy answers are the teacher's, token by token, one at a time and all at once."""
    said, _ = measured
    assert [one["batch"] for one in said["passes"]] == [1, ROWS]
    assert said["equal"] == {"1": ROWS, str(ROWS): ROWS} and not said["differences"]
    assert all(one["alone"] > 0 and one["speculative"] > 0 for one in said["passes"])


def test_what_is_accepted_is_what_the_two_models_agree_on(measured: tuple[dict[str, Any], Path]) -> None:
    """vLLM's counters say what replaying the draft's likeliest tokens along the answers says."""
    said, _ = measured
    replayed, formula, greedy_drafts, drawn_drafts = said["expected"]
    for one in said["passes"]:
        assert one["drafted"] == TOKENS * one["drafts"]
        assert len(one["by_position"]) == TOKENS and one["by_position"] == sorted(one["by_position"], reverse=True)
        assert sum(one["by_position"]) * one["drafts"] == pytest.approx(one["accepted"])
        assert one["acceptance"] == pytest.approx(replayed["acceptance"], abs=0.05)
        assert one["tokens_per_step"] == pytest.approx(replayed["tokens_per_step"], abs=0.15)
    assert 0.3 < formula["chance"] < 1
    assert greedy_drafts["chance"] < drawn_drafts["chance"] < 1


def test_the_result_is_kept(measured: tuple[dict[str, Any], Path]) -> None:
    """The file of the train version holds what was printed, and what it ran on."""
    said, run = measured
    (file,) = (run / "speculate").iterdir()
    kept = json.loads(file.read_text())
    assert file.stem == said["student"]["version"]
    assert kept.pop("environment")["packages"]
    assert kept == said
    assert said["ratio"] == pytest.approx(134.5 / 131, rel=0.01)
