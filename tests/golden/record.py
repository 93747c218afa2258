"""Make golden folders anew: ask the demo teacher, write its words to `recording.jsonl`, and the shards they give.

Run as `python -m tests.golden.record [NAME...]`; all folders when none is named. With --replay the words on record
are kept and only the shards are made anew. A folder is a plan without a teacher's model: it replays its recording.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TEACHER = "teacher={kind: vllm, model: demo:smollm2-135m-instruct, max_model_len: 2048}"


def folders() -> list[Path]:
    """Every golden folder."""
    return sorted(plan.parent for plan in HERE.glob("*/plan.yaml"))


def run(folder: Path, runs: Path, *more: str) -> Path:
    """The stages of a golden plan; the folder they were made in."""
    subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(folder / "plan.yaml"), *more],
        env=os.environ | {"PIPELINE_RUNS": str(runs)},
        cwd=ROOT,
        check=True,
    )
    return runs / str(yaml.safe_load((folder / "plan.yaml").read_text(encoding="utf-8"))["name"])


def ask(folder: Path, runs: Path) -> None:
    """The demo teacher's words to a plan, as its recording."""
    recording = folder / "recording.jsonl"
    recording.touch()
    made = run(folder, runs, "--set", TEACHER)
    with sqlite3.connect(made / "memo.sqlite") as db:
        rows = db.execute("select key, max_tokens, engine, answer from completion order by key, max_tokens").fetchall()
    lines = [orjson.dumps({"words": orjson.loads(rows[0][2])})]
    for key, under, _, answer in rows:
        lines.append(orjson.dumps({"key": key, "max_tokens": under, "completion": orjson.loads(answer)}))
    recording.write_bytes(b"\n".join(lines) + b"\n")


def keep(folder: Path, runs: Path) -> None:
    """The shards that a replay gives, as the expected ones."""
    made = run(folder, runs)
    shutil.rmtree(folder / "expected", ignore_errors=True)
    for shard in sorted(made.glob("*/*/*.jsonl")):
        target = folder / "expected" / shard.relative_to(made).parts[0]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(shard, target / shard.name)


def main() -> None:
    """Record, replay, keep the shards."""
    names = [name for name in sys.argv[1:] if name != "--replay"]
    for folder in folders():
        if names and folder.name not in names:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            if "--replay" not in sys.argv and "teacher:" in (folder / "plan.yaml").read_text(encoding="utf-8"):
                ask(folder, Path(scratch) / "asked")
            keep(folder, Path(scratch) / "replayed")


if __name__ == "__main__":
    main()
