"""Make the golden folder anew: ask the demo teacher, write its words to `recording.jsonl`, and the shards they give."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson

HERE = Path(__file__).resolve().parent / "stories"
ROOT = HERE.parent.parent.parent


def run(runs: Path, *more: str) -> None:
    """generate and filter of the golden plan."""
    subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(HERE / "plan.yaml"), *more],
        env=os.environ | {"PIPELINE_RUNS": str(runs)},
        cwd=ROOT,
        check=True,
    )


def main() -> None:
    """Record, replay, keep the shards."""
    with tempfile.TemporaryDirectory() as folder:
        asked, replayed = Path(folder) / "asked", Path(folder) / "replayed"
        (HERE / "recording.jsonl").touch()
        run(asked, "--set", "teacher={kind: vllm, model: demo:smollm2-135m-instruct, max_model_len: 1024}")
        with sqlite3.connect(asked / "golden/memo.sqlite") as db:
            rows = db.execute(
                "select key, max_tokens, engine, answer from completion order by key, max_tokens"
            ).fetchall()
        lines = [orjson.dumps({"words": orjson.loads(rows[0][2])})]
        lines += [
            orjson.dumps({"key": key, "max_tokens": under, "completion": orjson.loads(answer)})
            for key, under, _, answer in rows
        ]
        (HERE / "recording.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        run(replayed)
        for stage in ("generate", "filter"):
            target = HERE / "expected" / stage
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for shard in sorted((replayed / "golden" / stage).glob("*/*.jsonl")):
                shutil.copy(shard, target / shard.name)


if __name__ == "__main__":
    main()
