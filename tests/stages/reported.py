"""A run whose versions no stage has made, with everything that a report shows."""

import math
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.records import Check, Record
from pipeline.run import Run
from pipeline.store import Tally
from tests.helpers import record, stub_model, write_plan
from tests.stages import ablated, sealed
from tests.stages.conftest import RUBRIC

seal = partial(sealed.seal, environment={"packages": {"pipeline": "0.1.0"}, "git": "abc123+"})
TOPICS = ["fox, boat", "달, 친구", "sea"]


def plan(folder: Path) -> Path:
    """A plan with all five stages, of which none can run."""
    (folder / "rubric.md").write_text(RUBRIC.format(name="Rate"), encoding="utf-8")
    model = str(stub_model(folder / "student"))
    rules = [{"kind": "length", "min_chars": 20}, {"kind": "judge", "prompt": "rubric.md", "min_score": 2.5}]
    whole: dict[str, Any] = {
        "about": "a run for tests, 시험",
        "filter": {"rules": rules},
        "curate": {"embed": {"model": str(stub_model(folder / "embedder"))}, "keep": 2},
        "train": {"student": {"model": model}, "objective": {"kind": "sft"}},
        "evaluate": {},
    }
    return write_plan(folder, **whole)


def judged(text: str, n: int, score: float) -> Record:
    """A record that both rules have measured; the judge dropped it under 2.5."""
    checks = [Check(name="length", value=len(text)), Check(name="judge", value=score)]
    made = record(text, id=f"r{n:05d}", prompt=f"About {n}? {text[:40]}", checks=checks)
    if score < 2.5:
        return made.checked(Check(name="judge", value=score, passed=False, reason="low_score", detail=text[:60]))
    return made.model_copy(update={"split": "heldout" if n % 10 == 9 else "train"})


def everything(folder: Path, texts: list[str], run: Run, **evaluated: Any) -> None:
    """All five stages over records with these texts; every fourth is dropped, every second of the rest chosen."""
    rows = [judged(text, n, 2.0 if n % 4 == 3 else 2.5 + n % 5 / 2) for n, text in enumerate(texts)]
    kept = [row for row in rows if not row.dropped and row.split == "train"]
    low = len([row for row in rows if row.dropped])
    tally = Tally(step="generate", came=len(rows), kept=len(rows))
    bare = [r.model_copy(update={"by": "", "reason": "", "detail": "", "score": 0.0}) for r in rows]
    first = seal(run, "generate", bare, ledger=[tally], usage={"seconds": 60.0, "prompt_tokens": 900, "cost": 0.25})
    ledger = [
        Tally(step="length", came=len(rows), kept=len(rows)),
        Tally(step="judge", came=len(rows), kept=len(rows) - low, dropped={"low_score": low}),
    ]
    seal(run, "filter", rows, ledger=ledger, of=[first], usage={"seconds": 5.0}, notes=["judge: a note"])
    chosen = {row.id for row in kept[::2]}
    _curate(run, kept, chosen)
    steps = [{"step": n, "loss": 5 * math.exp(-n / 20), "kd": 1 / n, "learning_rate": 1e-3 / n} for n in range(1, 61)]
    figures = {"rows": len(chosen), "parameters": 46_000_000, "ratio": 2.9, "last_loss": steps[-1]["loss"]}
    seal(run, "train", ledger=[Tally(step="train", came=len(chosen), kept=len(chosen))], figures=figures,
         files={"metrics.jsonl": [*steps, {"train_runtime": 3.0, "step": 60}]}, usage={"seconds": 9.5})  # fmt: skip
    said = {
        "id": "p1",
        "prompt": texts[0],
        "heldout": texts[1],
        "teacher": texts[2],
        "untrained": "가나다",
        "trained": "x",
    }
    seal(run, "evaluate", figures={"rows": 7, "models": []} | evaluated, files={"samples.jsonl": [said]})
    ablated.seal(run)


def _curate(run: Run, kept: list[Record], chosen: set[str]) -> None:
    places = [
        {"id": r.id, "x": math.cos(n) * n / len(kept), "y": math.sin(n) * n / len(kept), "topic": n % len(TOPICS),
         "fate": "chosen" if r.id in chosen else "not_chosen"}
        for n, r in enumerate(kept)
    ]  # fmt: skip
    drop = Check(name="cluster", passed=False, reason="cluster_full")
    rows = [r if r.id in chosen else r.checked(drop) for r in kept]
    ends = {"mean": 0.2, "low": 0.15, "high": 0.25}
    figures = {
        "topics": [
            {"name": name, "rows": 9, "chosen": 4, "central": ["r00001"], "example": kept[0].answer} for name in TOPICS
        ],
        "comparison": {
            "figures": {"coverage_mean": {"chosen": 0.1, "random": ends, "before": None, "better": "lower"}},
            "chosen": len(chosen), "draws": 20, "looked_at": len(kept),
        },
        "isolated": [{"id": "r00001", "distance": 0.5, "fate": "chosen", "text": kept[0].answer}],
        "shares": {"language": {"en": [0.5, 0.6], "ko": [0.5, 0.4]}},
    }  # fmt: skip
    tally = Tally(step="cluster", came=len(kept), kept=len(chosen), dropped={"cluster_full": len(kept) - len(chosen)})
    seal(run, "curate", rows, ledger=[tally], figures=figures, files={"embeddings.jsonl": places})
