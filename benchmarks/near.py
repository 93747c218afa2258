"""Near-duplicates: the `near` rule beside rensa's plain MinHash on planted edits, in user CPU, recall and precision.

Run as `python -m benchmarks.near [ROWS]`; writes benchmarks/near.json. 100,000 pairs of about 1.8 kB, of which 2 % are
copies of others with 1 to 5 % of the words replaced, removed or added. Each way runs in a process of its own and is
timed from the texts to the verdicts; `stage` is `pipeline filter` on the file: start-up, reading and writing included.
"""

import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROWS, PLANTED, CHARS = 100_000, 0.02, 1800
THRESHOLD = 0.8  # rensa's own in its documentation


def sentences(rng: random.Random) -> list[str]:
    """40,000 sentences of made-up words, as frequent as words are (Zipf)."""
    syllables = ["ba", "cor", "den", "fi", "gal", "hu", "ket", "lo", "min", "nor", "pra", "qui", "ran", "sel", "tu"]
    vocabulary = sorted({"".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(30_000)})
    rng.shuffle(vocabulary)
    weights = [1 / (rank + 5) for rank in range(len(vocabulary))]
    lengths = [rng.randint(6, 24) for _ in range(40_000)]
    words = iter(rng.choices(vocabulary, weights, k=sum(lengths)))
    return [" ".join(next(words) for _ in range(length)).capitalize() + "." for length in lengths]


def edited(text: str, rng: random.Random, words: list[str]) -> str:
    """1 to 5 % of the words changed."""
    parts = text.split(" ")
    for place in rng.sample(range(len(parts)), max(1, round(rng.uniform(0.01, 0.05) * len(parts)))):
        new = rng.choice(words)
        parts[place] = rng.choice([new, new, "", f"{parts[place]} {new}"])
    return " ".join(filter(None, parts))


def write_rows(path: Path, rows: int) -> None:
    """Pairs in random order; the id of a copy is that of its original and `-copy`."""
    rng = random.Random(0)
    pool = sentences(rng)
    words = [word for sentence in pool[:2000] for word in sentence.split()]
    originals = []
    for _ in range(rows - round(rows * PLANTED)):
        answer = ""
        while len(answer) < CHARS:
            answer += f" {rng.choice(pool)}"
        originals.append(answer.strip())
    pairs = [(f"r{n}", answer) for n, answer in enumerate(originals)]
    for n in rng.sample(range(len(originals)), rows - len(originals)):
        pairs.append((f"r{n}-copy", edited(originals[n], rng, words)))
    rng.shuffle(pairs)
    with path.open("w", encoding="utf-8") as file:
        for own, answer in pairs:
            file.write(json.dumps({"id": own, "instruction": f"Write number {own}.", "output": answer}) + "\n")


def rows_of(path: Path) -> Iterator[tuple[str, str]]:
    """Id and answer of each row."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["id"], row["output"]


def near(path: Path) -> Callable[[], list[bool]]:
    """The rule at its defaults: which rows it drops."""
    from filters.near import Near
    from pipeline.records import Check, Message, Record
    from tests.helpers import Nobody

    given = [Check(name="given")]
    records = [
        Record(id=own, task="given", messages=[Message(role="assistant", content=text)], seeds=[own], checks=given)
        for own, text in rows_of(path)
    ]
    return lambda: [not check.passed for check in Near().sift(records, Nobody())]


def rensa(path: Path) -> Callable[[], list[bool]]:
    """rensa as its documentation has it: words as tokens, R-MinHash, bands, no verification."""
    from rensa import RMinHashDeduplicator

    texts = [text for _, text in rows_of(path)]
    dedup: Any = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=128, use_lsh=True)
    return lambda: [not new for new in dedup.add_pairs((str(n), text.split()) for n, text in enumerate(texts))]


def rensa_shingles(path: Path) -> Callable[[], list[bool]]:
    """The same over shingles of three words at the rule's threshold."""
    from rensa import RMinHashDeduplicator

    texts = [text for _, text in rows_of(path)]
    dedup: Any = RMinHashDeduplicator(threshold=0.6, num_perm=128, use_lsh=True)

    def grams(text: str) -> list[str]:
        words = text.casefold().split()
        return [" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2))]

    return lambda: [not new for new in dedup.add_pairs((str(n), grams(text)) for n, text in enumerate(texts))]


WAYS = {"near": near, "rensa": rensa, "rensa_shingles": rensa_shingles}


def one(way: str, path: Path) -> dict[str, Any]:
    """Cost and quality of one way, in this process."""
    run = WAYS[way](path)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    flags = run()
    after, ended = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    ids = [own.removesuffix("-copy") for own, _ in rows_of(path)]
    first = {own: n for n, own in reversed(list(enumerate(ids)))}
    second = [first[own] != n for n, own in enumerate(ids)]  # of a planted pair the later one should go
    right = sum(flag and wanted for flag, wanted in zip(flags, second, strict=True))
    return {
        "user_cpu_seconds": round(after.ru_utime - before.ru_utime, 1),
        "wall_seconds": round(ended - started, 1),
        "recall": round(right / sum(second), 4),
        "precision": round(right / max(1, sum(flags)), 4),
        "peak_gib": round(after.ru_maxrss / 2**20, 2),
    }


def stage(path: Path, rows: int) -> dict[str, Any]:
    """The command line on the same file."""
    plan = path.with_name("plan.yaml")
    plan.write_text(json.dumps({"name": "bench", "filter": {"rules": [{"kind": "near"}]}}))
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "pipeline", "filter", str(plan), "--input", str(path), "--quiet"],
        cwd=ROOT,
        env=os.environ | {"PIPELINE_RUNS": str(path.with_name("runs"))},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "user_cpu_seconds": round(after.ru_utime - before.ru_utime, 1),
        "wall_seconds": round(time.monotonic() - started, 1),
        "peak_gib": round(after.ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Every way in its own process, one after the other."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    result: dict[str, Any] = {"rows": rows, "planted": round(rows * PLANTED), "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, rows)
        result["stage"] = stage(path, rows)  # first: its peak is that of the largest child so far
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.near", "--way", way, str(path)]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            result[way] = json.loads(done.stdout.splitlines()[-1])
    text = json.dumps(result, indent=2)
    print(text)
    if rows == ROWS:
        (ROOT / "benchmarks/near.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps(one(sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
