"""Selectors: how long, how much memory, how well covered; beside scikit-learn and apricot on the same vectors.

Run as `python -m benchmarks.select [--apricot PYTHON] [--large N]`; PYTHON is an interpreter with `apricot-select`, N
the records of the large part (1,000,000; 0 leaves its figures as they are). Writes benchmarks/select.json. The vectors
(384 numbers, as of MiniLM) are drawn around 2,000 topics of very unequal size, so that two of one topic have a cosine
of about 0.5. Each way runs in a process of its own, is stopped after 20 minutes, and is timed from vectors in a file to
verdicts, without imports; its peak counts the pages of that file, too. The small part has one thread, the large one as
many as there are cores. `cover` is 1 - cosine to the nearest chosen, over 20,000 records.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WIDTH, TOPICS, BLOCK = 384, 2000, 50_000
SMALL, LARGE = (10_000, 1_000), (1_000_000, 10_000)  # records, and how many to keep
SELECTORS = ("cluster", "k_center", "facility", "herding", "gradient", "dpp", "score_first", "top", "random")
LIMIT = 20 * 60
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
APRICOT = """
import json, sys, time
import numpy as np
from apricot import FacilityLocationSelection
vectors = np.load(sys.argv[1])
FacilityLocationSelection(3, metric="precomputed", optimizer=sys.argv[3]).fit(np.eye(9))  # compiles
started = time.monotonic()
similar = np.maximum(vectors @ vectors.T, 0).astype(np.float64)
found = FacilityLocationSelection(int(sys.argv[2]), metric="precomputed", optimizer=sys.argv[3], random_state=0)
found.fit(similar)
seconds = time.monotonic() - started
print(json.dumps({"seconds": seconds, "chosen": found.ranking.tolist()}))
"""


def write(path: Path, rows: int) -> None:
    """Vectors of length 1, the same each time."""
    source = np.random.default_rng(0)
    topics = source.normal(size=(TOPICS, WIDTH)).astype(np.float32) / np.float32(np.sqrt(WIDTH))
    shares = 1 / np.arange(1, TOPICS + 1)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, WIDTH))
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        block = source.normal(size=(size, WIDTH)).astype(np.float32) / np.float32(np.sqrt(WIDTH))
        block += topics[source.choice(TOPICS, size, p=shares / shares.sum())]
        file[start : start + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
    file.flush()


def ours(kind: str, vectors: Any, keep: int) -> Callable[[], list[int]]:
    """A selector at its defaults; scores are drawn."""
    import sklearn.cluster  # noqa: F401  # not timed
    from pydantic import TypeAdapter

    from stages.selectors import AnySelector
    from stages.selectors.base import Candidates

    n = len(vectors)
    settings = {"kind": kind} | ({"model": "none"} if kind == "gradient" else {})
    selector = TypeAdapter(AnySelector).validate_python(settings)
    scores = np.random.default_rng(1).uniform(1, 5, size=n)
    candidates = Candidates([f"{i:08d}" for i in range(n)], vectors, scores, [""] * n, vectors)
    return lambda: [i for i, choice in enumerate(selector.pick(candidates, keep, 0)) if choice.chosen]


def sklearn(init: str, vectors: Any, keep: int) -> Callable[[], list[int]]:
    """scikit-learn's k-means, and of each cluster the record nearest to its centre."""
    from sklearn.cluster import KMeans

    def run() -> list[int]:
        model = KMeans(keep, init=init, n_init=1, random_state=0).fit(vectors)
        away = np.linalg.norm(vectors - model.cluster_centers_[model.labels_], axis=1)
        order = np.lexsort((away, model.labels_))
        first: list[int] = order[np.searchsorted(model.labels_[order], np.unique(model.labels_))].tolist()
        return first

    return run


def one(way: str, path: Path, keep: int) -> dict[str, Any]:
    """Cost and cover of one way, in this process."""
    vectors = np.load(path, mmap_mode="r")
    kind, _, init = way.partition(" ")
    run = sklearn(init, np.asarray(vectors), keep) if kind == "sklearn" else ours(kind, vectors, keep)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    chosen = run()
    ended, after = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert peak
    return {
        "seconds": round(ended - started, 2),
        "user_cpu_seconds": round(after.ru_utime - before.ru_utime, 2),
        "peak_gib": round(int(peak[1]) / 2**20, 2),
        **cover(vectors, chosen),
    }


def cover(vectors: Any, chosen: list[int]) -> dict[str, Any]:
    """Mean and largest distance to the nearest chosen; and what facility location makes largest."""
    some = np.sort(np.random.default_rng(2).choice(len(vectors), min(20_000, len(vectors)), replace=False))
    theirs = np.asarray(vectors[np.sort(chosen)])
    near = np.concatenate([(vectors[part] @ theirs.T).max(axis=1) for part in np.array_split(some, 20)])
    return {
        "chosen": len(chosen),
        "cover_mean": round(float(1 - near.mean()), 4),
        "cover_worst": round(float(1 - near.min()), 4),
        "facility": round(float(np.maximum(near, 0).sum(dtype=np.float64)), 2),
    }


def apart(way: str, path: Path, keep: int, env: Mapping[str, str]) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.select", "--way", way, str(path), str(keep)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | env, check=True, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"stopped_after_seconds": LIMIT}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(way, found, file=sys.stderr)
    return found


def apricot(python: Path, path: Path, keep: int, optimizer: str) -> dict[str, Any]:
    """Facility location as apricot has it, on a whole matrix of similarities."""
    command = [str(python), "-c", APRICOT, str(path), str(keep), optimizer]
    try:
        done = subprocess.run(
            command, env=os.environ | ONE_THREAD, check=True, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"stopped_after_seconds": LIMIT}
    found = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": round(found["seconds"], 2), **cover(np.load(path), found["chosen"])}


def main() -> None:
    """The small part, then the large one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--apricot", type=Path)
    parser.add_argument("--large", type=int, default=LARGE[0])
    options = parser.parse_args()
    result: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count(), "dimensions": WIDTH}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        write(path, SMALL[0])
        small: dict[str, Any] = {"records": SMALL[0], "keep": SMALL[1]}
        for way in (*SELECTORS, "sklearn k-means++", "sklearn random"):
            small[way] = apart(way, path, SMALL[1], ONE_THREAD)
        for optimizer in ("two-stage", "lazy") if options.apricot else ():
            small[f"apricot {optimizer}"] = apricot(options.apricot, path, SMALL[1], optimizer)
        result["small"] = small
        if options.large:
            write(path, options.large)
            result["large"] = {"records": options.large, "keep": LARGE[1]} | {
                way: apart(way, path, LARGE[1], {}) for way in ("k_center", "cluster")
            }
    target = ROOT / "benchmarks/select.json"
    if not options.large and target.exists():
        result["large"] = json.loads(target.read_text(encoding="utf-8"))["large"]
    text = json.dumps(result, indent=2)
    print(text)
    if options.large in (0, LARGE[0]):
        target.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps(one(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
