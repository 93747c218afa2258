"""The same rules over 100,000 instruction pairs: `pipeline filter` beside datatrove, with as many worker processes.

Run as `python -m benchmarks.filters DATA [--datatrove PYTHON] [--rows N] [--workers N]`; DATA is the folder of real
data (tests/filters/test_real_data.py finds it), PYTHON an interpreter with `datatrove[processing]`. Writes
benchmarks/filters.json. Rules: Gopher repetition and quality with the paper's bounds, length, banned words, script.
Answers are pieces of real answers and pages, joined to about 1.8 kB.
"""

import argparse
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZE = 1800  # characters of an answer
CODE = frozenset("`{}<>|_=#")  # pages: paragraphs of prose alone
ROLE_PLAY = "gpteacher/roleplay-simple-deduped-roleplay-instruct.json"
BANNED = ("porn", "viagra", "casino", "lottery", "kill", "bomb")
COMMAND = "from pipeline.cli import main; main()"
RULES = [
    {"kind": "length", "min_chars": 200, "max_chars": 20_000},
    {"kind": "words", "banned": list(BANNED)},
    {"kind": "script", "script": "Latin", "min_share": 0.9, "max_other": 1},
    {
        "kind": "gopher", "min_words": 50, "min_mean_chars": 3, "max_mean_chars": 10, "max_symbols": 0.1,
        "max_bullet_lines": 0.9, "max_ellipsis_lines": 0.3, "min_alphabetic": 0.8, "min_stop_words": 2,
    },
    {
        "kind": "repetition", "max_line_share": 0.2, "max_paragraph_share": 0.2, "max_top": {2: 0.2, 3: 0.18, 4: 0.16},
        "max_duplicate": {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}, "min_words": 0,
    },
]  # fmt: skip
DATATROVE = """
import json, sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter, LambdaFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
import re
source, target, workers, banned = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
WORDS = re.compile(r"\\b(?:" + "|".join(banned) + r")\\b", re.IGNORECASE)

def long_enough(doc): return 200 <= len(doc.text.strip()) <= 20000
def clean(doc): return WORDS.search(doc.text) is None
def latin(doc):
    letters = [c for c in doc.text if c.isalpha()]
    return not letters or sum(c < "\\u0250" for c in letters) >= 0.9 * len(letters)

if __name__ == "__main__":
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(source, glob_pattern="*.jsonl", text_key="text"),
            LambdaFilter(long_enough), LambdaFilter(clean), LambdaFilter(latin),
            GopherQualityFilter(max_non_alpha_words_ratio=0.7),  # marks count as words here
            GopherRepetitionFilter(), JsonlWriter(target, compression=None),
        ],
        tasks=workers, workers=workers, logging_dir=target + "/log", start_method="spawn",
    ).run()
"""


def pieces(data: Path) -> tuple[list[str], list[str]]:
    """English role plays, pages and stories by the paragraph; and worked sums."""
    texts = [row["response"] for row in json.loads((data / ROLE_PLAY).read_text(encoding="utf-8"))]
    pages = [*sorted(data.glob("docs_*/en/**/*.md*")), *sorted(data.glob("stories_en/**/*.md"))]
    for page in pages:
        parts = page.read_text(encoding="utf-8").split("\n\n")
        texts.extend(part.strip() for part in parts if len(part) > 80 and not CODE.intersection(part))
    sums = (data / "gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()
    return texts, [json.loads(line)["answer"] for line in sums]


def answers(data: Path, rows: int) -> Iterator[str]:
    """The same answers each time: one piece in twenty is a sum, one in thirty stands twice."""
    drawn = random.Random(0)
    texts, sums = pieces(data)
    for _ in range(rows):
        parts: list[str] = []
        while sum(map(len, parts)) < SIZE - 200:
            again = parts and drawn.random() < 1 / 30
            parts.append(parts[-1] if again else drawn.choice(sums if drawn.random() < 0.05 else texts))
        yield "\n\n".join(parts)[: SIZE + 400]


def write(data: Path, rows: int, folder: Path, workers: int) -> None:
    """The rows for both sides: one file of conversations, and a file of texts for each of datatrove's tasks."""
    (folder / "texts").mkdir()
    files = [(folder / f"texts/{n}.jsonl").open("w", encoding="utf-8") for n in range(workers)]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as ours:
        for n, (answer, theirs) in enumerate(zip(answers(data, rows), itertools.cycle(files), strict=False)):
            prompt = f"Question {n}: what do you make of this?"
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            ours.write(json.dumps({"messages": turns}) + "\n")
            theirs.write(json.dumps({"id": str(n), "text": answer}) + "\n")
    for file in files:
        file.close()


def measured(command: list[str], env: dict[str, str]) -> dict[str, float]:
    """What a command and its children cost: user CPU and wall seconds, and the largest process in MiB."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=ROOT, env=os.environ | env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "user_cpu_seconds": round(after.ru_utime - before.ru_utime, 1),
        "wall_seconds": round(time.monotonic() - started, 1),
        "peak_mib_of_a_process": round(after.ru_maxrss / 1024),
    }


def ours(folder: Path, workers: int) -> dict[str, float]:
    """`pipeline filter` on the file."""
    plan = {"name": "bench", "filter": {"rules": RULES, "workers": workers}}
    (folder / "plan.yaml").write_text(json.dumps(plan), encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        COMMAND,
        "filter",
        str(folder / "plan.yaml"),
        "--input",
        str(folder / "rows.jsonl"),
    ]
    cost = measured([*command, "--quiet"], {"PIPELINE_RUNS": str(folder / "runs")})
    (manifest,) = (folder / "runs").rglob("manifest.json")
    ledger = json.loads(manifest.read_text(encoding="utf-8"))["ledger"]
    return cost | {"kept": ledger[-1]["kept"], "dropped": {step["step"]: step["dropped"] for step in ledger}}


def theirs(folder: Path, python: Path, workers: int) -> dict[str, float]:
    """datatrove on the same texts."""
    (folder / "theirs.py").write_text(DATATROVE, encoding="utf-8")
    arguments = [str(folder / "texts"), str(folder / "out"), str(workers), json.dumps(BANNED)]
    cost = measured([str(python), str(folder / "theirs.py"), *arguments], {})
    kept = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in (folder / "out").glob("*.jsonl"))
    return cost | {"kept": kept}


def main() -> None:
    """Both sides once; the figures and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--datatrove", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/filters.json")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(chosen.data, chosen.rows, folder, chosen.workers)
        result: dict[str, object] = {
            "rows": chosen.rows,
            "mean_characters": round(sum(map(len, answers(chosen.data, 1000))) / 1000),
            "workers": chosen.workers,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        mine, other = ours(folder, chosen.workers), None
        result["pipeline"] = mine
        if chosen.datatrove:
            other = theirs(folder, chosen.datatrove, chosen.workers)
        elif chosen.out.is_file():  # the peer's last figures on the same rows
            before = json.loads(chosen.out.read_text(encoding="utf-8"))
            same = all(before[key] == result[key] for key in ("rows", "mean_characters", "workers"))
            other = before.get("datatrove") if same else None
        if other:
            result["datatrove"] = other
            result["user_cpu_ratio"] = round(other["user_cpu_seconds"] / mine["user_cpu_seconds"], 1)
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
