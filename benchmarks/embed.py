"""Embedding: the `Embedder` beside `SentenceTransformer.encode` alone, its backends, and what of a batch is padding.

Run as `OMP_NUM_THREADS=1 python -m benchmarks.embed DATA [--texts N] [--rounds N]`; DATA is the folder of real data
(tests/filters/test_real_data.py finds it). Writes benchmarks/embed.json. All ways take the same texts in turn, round by
round, in one process; backends that are not installed (`pipeline[openvino]`) are left out. Speeds are by CPU seconds of
one thread, which other users of the machine disturb least: threads that wait for a core burn time, too. Quality is held
against torch: the cosine of each vector to torch's, and how many of a text's ten nearest texts stay among its ten
nearest.
"""

import argparse
import importlib.util
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
ROLE_PLAY = "gpteacher/roleplay-simple-deduped-roleplay-instruct.json"
WINDOWS = (32, 128, 512, 1024, 2048, 4096)
NEEDS = {"torch": "torch", "openvino": "openvino", "openvino_int8": "nncf"}
NEAREST = 10


def real_texts(data: Path) -> list[str]:
    """Answers, sums, stories and paragraphs of manuals, each once, in random order."""
    texts = [row["response"] for row in json.loads((data / ROLE_PLAY).read_text(encoding="utf-8"))]
    texts += [r["output"] for r in json.loads((data / "rasbt_instruction/instruction-data.json").read_text("utf-8"))]
    sums = (data / "gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()[:1500]
    texts += [json.loads(line)["question"] for line in sums]
    texts += [story.read_text(encoding="utf-8") for story in data.glob("stories_en/**/*.md")]
    for page in data.glob("docs_*/en/**/*.md*"):
        texts += [part.strip() for part in page.read_text(encoding="utf-8").split("\n\n") if len(part) > 80]
    found = sorted(set(texts))
    random.Random(0).shuffle(found)
    return found


def ways() -> dict[str, Callable[[Sequence[str]], Any]]:
    """What is compared: texts to vectors."""
    from sentence_transformers import SentenceTransformer

    from pipeline.models import find

    alone = SentenceTransformer(find(Embedder().model).where)
    found = {"sentence_transformers": lambda texts: alone.encode(list(texts), normalize_embeddings=True)}
    for backend, package in NEEDS.items():
        if importlib.util.find_spec(package):
            found[backend] = Embedder(backend=backend).open().encode
    return found


def compared(texts: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Speed, as a multiple of sentence-transformers' alone, and quality of each way: medians of the rounds."""
    encoders = ways()
    cpu: dict[str, list[float]] = {way: [] for way in encoders}
    wall: dict[str, list[float]] = {way: [] for way in encoders}
    vectors = {}
    for encode in encoders.values():
        encode(texts[:64])
    for _ in range(rounds):
        for way, encode in encoders.items():
            before = time.process_time(), time.monotonic()
            vectors[way] = encode(texts)
            cpu[way].append(time.process_time() - before[0])
            wall[way].append(time.monotonic() - before[1])
    base = statistics.median(cpu["sentence_transformers"])
    return {
        way: {
            "cpu_seconds": round(statistics.median(cpu[way]), 1),
            "wall_seconds": round(statistics.median(wall[way]), 1),
            "texts_per_cpu_second": round(len(texts) / statistics.median(cpu[way]), 1),
            "speed": round(base / statistics.median(cpu[way]), 2),
        }
        | quality(vectors[way], vectors["torch"])
        for way in encoders
    }


def quality(vectors: "NDArray[np.float32]", torchs: "NDArray[np.float32]") -> dict[str, float]:
    """How near vectors are to torch's, one by one and as neighbours of each other."""
    import numpy as np

    cosines = (vectors * torchs).sum(1)
    both = [np.argsort(2 * np.eye(len(v)) - v @ v.T, axis=1)[:, :NEAREST] for v in (vectors, torchs)]
    kept = [len(set(mine) & set(theirs)) / NEAREST for mine, theirs in zip(*both, strict=True)]
    return {
        "mean_cosine": round(float(cosines.mean()), 4),
        "min_cosine": round(float(cosines.min()), 4),
        "nearest_kept": round(float(np.mean(kept)), 3),
    }


def padding(texts: list[str], batch_size: int) -> dict[str, dict[str, float]]:
    """Tokens read for each token of the texts, by how many texts a call gets to sort: by characters, as
    sentence-transformers does, or by tokens, as the `Embedder` does on a GPU.
    """
    from transformers import AutoTokenizer

    from pipeline.models import find

    tokenizer = AutoTokenizer.from_pretrained(find(Embedder().model).where)
    tokens = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
    found = {}
    for name, lengths in (("by_characters", list(map(len, texts))), ("by_tokens", tokens)):
        read = dict.fromkeys(WINDOWS, 0)
        for window in WINDOWS:
            for start in range(0, len(texts), window):
                call = sorted(range(start, min(start + window, len(texts))), key=lambda n: -lengths[n])
                batches = [call[at : at + batch_size] for at in range(0, len(call), batch_size)]
                read[window] += sum(len(batch) * max(tokens[n] for n in batch) for batch in batches)
        found[name] = {str(window): round(count / sum(tokens), 3) for window, count in read.items()}
    return found


def main() -> None:
    """Padding by window, then all ways in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/embed.json")
    chosen = parser.parse_args()
    import torch

    pool = real_texts(chosen.data)
    found = compared(pool[: chosen.texts], chosen.rounds)
    result = {
        "texts": chosen.texts,
        "mean_characters": round(statistics.mean(map(len, pool[: chosen.texts]))),
        "rounds": chosen.rounds,
        "model": Embedder().model,
        "ways": found,
        "padding": {"texts": len(pool), "tokens_read_for_each": padding(pool, Embedder().batch_size)},
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
