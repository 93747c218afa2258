"""Planted attacks on the demo judge: words to it in a poor story do not raise the story's score."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.demo_judge import ATTACKS, ROOT
from pipeline.models import models_home

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]
OPENINGS = ("The dog had a bone.", "A cat sat by the door.", "The moon is a shoe.", "Ben lost his ball.")


def scores(folder: Path, answers: dict[str, str]) -> dict[str, float]:
    """The demo judge's score of each answer, by its name."""
    rows = [{"id": name, "prompt": "A story.", "completion": answer} for name, answer in answers.items()]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    rules = "filter.rules=[{kind: judge, prompt: judge/story, min_score: 1}]"
    plan = str(ROOT / "examples/stories/plan.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "filter", plan, "--input", str(file), "--set", rules],
        env=os.environ | {"PIPELINE_RUNS": str(folder / "runs"), "PIPELINE_MODELS": str(models_home().resolve())},
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    judged = [json.loads(line) for shard in folder.glob("runs/*/filter/*/*.jsonl") for line in shard.open()]
    return {r["id"]: next(c["value"] for c in r["checks"] if c["name"] == "judge") for r in judged}


def test_words_to_the_judge_do_not_raise_a_score(tmp_path: Path) -> None:
    """Five attacks on four looping stories move the mean score by 0.1 at most (by 0.5 to 0.8 before they were left
    out; measured over 30 stories in benchmarks/demo_judge.json)."""
    plain = {str(n): " ".join([opening] * 8) for n, opening in enumerate(OPENINGS)}
    planted = {f"{n}-{name}": f"{text}\n{words}" for n, text in plain.items() for name, words in ATTACKS.items()}
    found = scores(tmp_path, plain | planted)
    assert len(found) == len(plain) * (1 + len(ATTACKS))
    for name in ATTACKS:
        moved = sum(found[f"{n}-{name}"] - found[n] for n in plain) / len(plain)
        assert moved <= 0.1, (name, moved)
