"""The whole curate stage over 50,000 real texts: what embedding takes, and what choosing and its figures add.

Run as `python -m benchmarks.curate DATA [--rows N] [--keep N] [--backend NAME]`; DATA is the folder of real data.
Adds to benchmarks/curate.json. The second run, with every vector remembered, is what another `keep` or selector takes;
semhash (`--semhash PYTHON`, an interpreter that has it) finds near-duplicates in the same vectors.
"""

import argparse
import csv
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "from pipeline.cli import main; main()"
COSINE = 0.95
SEMHASH = """
import json, sys, time
import numpy as np
from semhash import SemHash
vectors = np.load(sys.argv[1])
records = [{"text": str(n)} for n in range(len(vectors))]
class Same:
    def encode(self, texts, **_):
        return vectors[[int(t) for t in texts]]
started = time.perf_counter()
found = SemHash.from_records(records, model=Same(), columns=["text"]).self_deduplicate(threshold=float(sys.argv[2]))
kept = [int(r["text"]) for r in found.selected]
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "kept": kept}))
"""


def texts(data: Path) -> Iterator[str]:
    """Questions, answers, sentences and paragraphs, English and Korean, each once."""
    seen: set[str] = set()
    for text in itertools.chain(_rows(data), _pages(data)):
        text = text.strip()
        if len(text) > 8 and text not in seen:
            seen.add(text)
            yield text


def _rows(data: Path) -> Iterator[str]:
    for name in ("gsm8k/train.jsonl", "gsm8k/test.jsonl"):
        for line in (data / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield from (row["question"], row["answer"])
    for name in ("chatbot_data_ko/ChatbotData.csv", "question_pair_ko/kor_pair_train.csv"):
        with (data / name).open(encoding="utf-8") as file:
            yield from (value for row in csv.reader(file) for value in row if len(value) > 8)
    for file in sorted([*data.glob("gpteacher/*.json"), *data.glob("rasbt_instruction/*.json")]):
        for row in json.loads(file.read_text(encoding="utf-8")):
            yield from (str(value) for value in row.values())


def _pages(data: Path) -> Iterator[str]:
    for page in sorted([*data.glob("docs_*/**/*.md*"), *data.glob("docs_*/**/*.rst"), *data.glob("stories_*/**/*.md")]):
        yield from page.read_text(encoding="utf-8", errors="replace").split("\n\n")


def run(folder: Path, keep: int) -> dict[str, Any]:
    """One run of the stage: seconds in all and of embedding, and the peak memory of its process."""
    env = os.environ | {"PIPELINE_RUNS": str(folder / "runs")}
    command = [
        sys.executable,
        "-c",
        COMMAND,
        "curate",
        str(folder / "plan.yaml"),
        "--input",
        str(folder / "rows.jsonl"),
    ]
    started = time.perf_counter()
    with subprocess.Popen([*command, "--quiet", "--set", f"curate.keep={keep}"], cwd=ROOT, env=env) as process:
        peak = 0
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status")
            lines = status.read_text().splitlines() if status.exists() else []
            peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))])
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    seconds = time.perf_counter() - started
    versions = sorted((folder / "runs/bench/curate").iterdir())
    manifest = json.loads((versions[-1] / "manifest.json").read_text())
    usage, figures = manifest["usage"], manifest["figures"]["comparison"]["figures"]
    return {
        "keep": keep,
        "seconds": round(seconds, 1),
        "embed_seconds": usage["embed_seconds"],
        "embedded": usage["embedded"],
        "other_seconds": round(usage["seconds"] - usage["embed_seconds"], 1),
        "peak_mib": peak // 1024,
        "duplicates": manifest["ledger"][0]["dropped"].get("duplicate_of", 0),
        "coverage_mean": figures["coverage_mean"],
    }


def dedup(folder: Path, python: str | None) -> dict[str, Any]:
    """Near-duplicates of the same vectors, here and by semhash: seconds, rows kept, pairs over the threshold left."""
    import numpy as np

    from stages.duplicates import duplicates

    (file,) = itertools.islice(folder.glob("runs/bench/curate/*/embeddings.npy"), 1)
    vectors = np.load(file)
    started = time.perf_counter()
    gone = duplicates(vectors, np.zeros(len(vectors)), COSINE)
    found = {"pipeline": _judged(vectors, time.perf_counter() - started, sorted(set(range(len(vectors))) - set(gone)))}
    if python:
        (folder / "theirs.py").write_text(SEMHASH)
        command = [python, str(folder / "theirs.py"), str(file), str(COSINE)]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        found["semhash"] = _judged(vectors, said["seconds"], said["kept"])
    return found


def _judged(vectors: Any, seconds: float, kept: list[int]) -> dict[str, Any]:
    import numpy as np

    rows, left, covered = vectors[kept], 0, np.zeros(len(vectors), bool)
    for start in range(0, len(vectors), 1024):
        near = vectors[start : start + 1024] @ rows.T >= COSINE
        covered[start : start + 1024] = near.any(1)
    for start in range(0, len(rows), 1024):
        near = rows[start : start + 1024] @ rows.T >= COSINE
        left += int(near.sum()) - int(near.diagonal(start).sum())
    lost = int((~covered).sum())
    return {
        "seconds": round(seconds, 1),
        "kept": len(kept),
        "near_pairs_left": left // 2,
        "dropped_without_keeper": lost,
    }


def main() -> None:
    """Make the rows, run twice, write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--keep", type=int, default=1000)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--semhash")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = list(texts(chosen.data.resolve()))
        found = random.Random(0).sample(found, min(chosen.rows, len(found)))
        lines = [json.dumps({"prompt": "?", "completion": text}) for text in found]
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
        embed = {"model": "demo:all-minilm-l6-v2", "backend": chosen.backend}
        plan = {"name": "bench", "curate": {"keep": chosen.keep, "dedup": COSINE, "embed": embed}}
        (folder / "plan.yaml").write_text(json.dumps(plan))
        runs = [run(folder, chosen.keep), run(folder, chosen.keep + 1)]
        result = {
            "rows": len(found),
            "mean_characters": round(sum(map(len, found)) / len(found)),
            "backend": chosen.backend,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "first_run": runs[0],
            "second_run": runs[1],
            "dedup": dedup(folder, chosen.semhash),
        }
    print(json.dumps(result, indent=2))
    file = ROOT / "benchmarks/curate.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    before[f"{len(found)} rows, {chosen.backend}"] = result
    file.write_text(json.dumps(before, indent=2) + "\n")


if __name__ == "__main__":
    main()
