"""Training: `sft` through the stage beside TRL's trainer called directly, packed beside unpacked rows, and soft labels
from the teacher itself beside those it stored.

Run as `python -m benchmarks.train DATA [--rows N] [--rounds N]`; DATA is the folder of real data
(tests/filters/test_real_data.py finds it). Writes benchmarks/train.json. The teacher is the demo model, the student
five of its layers; rows are real instructions and answers. Every way is a process of its own, so that its peak memory
is its own, and the ways take turns, round by round; the median counts. Tokens are those of the rows, padding left out.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stages import training
from stages.objectives import AnyObjective
from stages.student import Named, load
from stages.training import Lesson

TEACHER = "demo:smollm2-135m-instruct"
STUDENT = {"model": TEACHER, "layers": [0, 1, 10, 20, 29]}
BATCH, LENGTH, TOP = 8, 512, 20
PLAIN = {"num_train_epochs": 1, "per_device_train_batch_size": BATCH, "max_length": LENGTH}
WAYS: dict[str, dict[str, Any]] = {
    "trl": {"kind": "sft"},
    "sft": {"kind": "sft"},
    "sft_packed": {"kind": "sft", "config": {"packing": True}},
    "soft_label": {"kind": "soft_label", "temperature": 1},
    "soft_label_stored": {"kind": "soft_label", "stored": True},
}


def make_rows(data: Path, rows: int, folder: Path) -> None:
    """Rows as the train stage writes them."""
    asked = json.loads((data / "rasbt_instruction/instruction-data.json").read_text(encoding="utf-8"))
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for n, row in enumerate(asked[:rows]):
            text = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
            turns = {"prompt": [{"role": "user", "content": text}],
                     "completion": [{"role": "assistant", "content": row["output"]}]}  # fmt: skip
            file.write(json.dumps(turns | {"id": f"r{n}"}, ensure_ascii=False) + "\n")


def store(folder: Path) -> None:
    """The teacher's log-probabilities of the answers, as `generate` stores them."""
    import torch

    from pipeline.engines.trace import Trace
    from stages.sidecar import Sidecar

    rows = training.examine(lesson("sft", folder)).data
    model, _ = load(TEACHER)
    sidecar = Sidecar(folder, TEACHER)
    for row in rows:
        first = next(n for n, label in enumerate(row["labels"]) if label != -100)
        with torch.inference_mode():
            logits = model(torch.tensor([row["input_ids"]])).logits[0, first - 1 : -1]
        top = logits.float().log_softmax(-1).topk(TOP)
        pairs = [list(zip(t, v, strict=True)) for t, v in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
        tokens = row["input_ids"][first:]
        sidecar.add(row["id"], Trace.pack(TOP, tokens, [0.0] * len(tokens), pairs))
    sidecar.close()


def lesson(way: str, folder: Path) -> Lesson:
    """What the train stage would do."""
    from pydantic import TypeAdapter

    from stages.objectives.stored import Stored

    objective = TypeAdapter(AnyObjective).validate_python(PLAIN | WAYS[way])
    stored = Stored(sorted(folder.glob("logprobs-*.safetensors"))) if objective.learns_from == "stored" else None
    teacher = Named(TEACHER) if objective.learns_from == "teacher" else None
    work = Path(tempfile.mkdtemp(dir=folder))
    return Lesson(objective, STUDENT, teacher, stored, folder / "rows.jsonl", frozenset(), 1.0, 0, work)


def child(way: str, folder: Path) -> dict[str, float]:
    """One training in this process: seconds of the steps alone, tokens a second, peak memory."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    given = lesson(way, folder)
    began = time.monotonic()
    found = training.examine(given)
    looked = time.monotonic() - began
    started, cpu = time.monotonic(), time.process_time()
    if way == "trl":
        speed = direct(given, found)
    else:
        speed = training.teach(given, found, given.work / "out").figures["tokens_per_second"]
    return {
        "tokens_per_second": speed,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
        "preflight_seconds": looked,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def direct(given: Lesson, found: Any) -> float:
    """TRL's SFTTrainer, with the same model, rows and settings."""
    from transformers import set_seed
    from trl import SFTTrainer

    set_seed(0)
    model, tokenizer = load(**given.student)
    args = given.objective.arguments(found.rows, given.work / "checkpoints", 0)
    trainer = SFTTrainer(model=model, args=args, train_dataset=found.data, processing_class=tokenizer)
    started = time.monotonic()
    trainer.train()
    return float(found.work / (time.monotonic() - started))


def measure(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """The medians of each way."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            asked = [sys.executable, "-m", "benchmarks.train", str(folder), "--way", way]
            done = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(way, found[way][-1], flush=True)
    return {
        way: {name: round(statistics.median(one[name] for one in runs), 2) for name in runs[0]}
        for way, runs in found.items()
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", default="")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(child(given.way, given.data)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_rows(given.data, given.rows, folder)
        store(folder)
        ways = measure(folder, given.rounds)
    speeds = {way: one["tokens_per_second"] for way, one in ways.items()}
    ratios = {
        "sft_over_trl": speeds["sft"] / speeds["trl"],
        "packed_over_unpacked": speeds["sft_packed"] / speeds["sft"],
        "stored_over_live": speeds["soft_label_stored"] / speeds["soft_label"],
        "memory_stored_over_live": ways["soft_label_stored"]["peak_gib"] / ways["soft_label"]["peak_gib"],
    }
    report = {
        "machine": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0)),
        "rows": given.rows, "rounds": given.rounds, "ways": ways,
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
    }  # fmt: skip
    print(json.dumps(report, indent=2))
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
