"""An ablation whose students nobody has trained: figures as a manifest has them, and a version of them."""

from collections.abc import Sequence
from typing import Any

from pipeline.run import Run
from pipeline.store import Version
from stages.bootstrap import Interval
from stages.compare import Row
from stages.scores.base import Metric
from tests.stages import sealed

PERPLEXITY = Metric("perplexity", "perplexity", "lower", "perplexity")
CHRF = Metric("chrf", "chrF", style="share")
KEPT = Metric("language_kept", "language kept", style="share")
SCORE = Metric("judge_score", "judge score")
LENGTH = Metric("characters", "characters", "")
STRICT = "엄격한-심사"
ARMS = ("unfiltered", "random", "filtered", STRICT)
PAIRS = (
    ("random", "unfiltered", "fewer rows"), ("filtered", "random", "filtering"), (STRICT, "filtered", STRICT),
)  # fmt: skip
FOUND: dict[Metric, tuple[Interval | None, ...]] = {
    PERPLEXITY: (Interval(1.02, 0.97, 1.07, 19), Interval(0.8, 0.7, 0.9, 19), Interval(1.2, None, None, 1)),
    CHRF: (Interval(0.01, -0.02, 0.04, 19), Interval(-0.05, -0.08, -0.02, 19), Interval(0.03, 0.01, 0.05, 19)),
    KEPT: (Interval(0.0, None, None, 19),) * 3,
    SCORE: (Interval(0.2, 0.1, 0.3, 19), Interval(0.0, -0.1, 0.1, 19), None),
}
"""By metric a difference for each of `PAIRS`."""


def contrast(pair: tuple[str, str, str], metric: Metric, found: Interval | None) -> dict[str, Any]:
    """A row of `contrasts`, with the verdict that it deserves."""
    first, second, brought = pair
    name, label, better, style, _ = metric
    row = Row(first, name, label, style, better, 10.0, 11.0, found, found.n if found else 0, True)
    words = {"first": first, "second": second, "brought": brought}
    return words | row._asdict() | {"difference": found and found.plain(), "verdict": row.verdict}


def contrasts(pairs: Sequence[tuple[str, str, str]] = PAIRS) -> list[dict[str, Any]]:
    """Every metric of every pair; what was found is used again where pairs are more."""
    return [
        contrast(pair, metric, found[n % len(found)]) for n, pair in enumerate(pairs) for metric, found in FOUND.items()
    ]


def figures(names: Sequence[str] = ARMS, pairs: Sequence[tuple[str, str, str]] = PAIRS) -> dict[str, Any]:
    """As the manifest has them."""
    values = {
        "perplexity": Interval(38.25, 35.5, 41.0, 19).plain(),
        "characters": Interval(300.0, None, None, 19).plain(),
    }
    arm = {"data": "drawn of all generated", "stage": "generate", "from": "0001-aaaaaaaa", "student": "", "students": 2,
           "rows": 60, "parameters": 46_000_000, "tokens": 9396.0, "seen": 37584.0, "last_loss": 2.125,
           "values": values, "costs": {}}  # fmt: skip
    return {
        "own": names[-1],
        "arms": [{"arm": name} | arm for name in names],
        "beside": [{"model": name, "values": values, "costs": {}} for name in ("untrained", "teacher")],
        "metrics": [metric._asdict() for metric in (LENGTH, *FOUND)],
        "contrasts": contrasts(pairs),
        "seeds": [7, 8], "draw": 60, "budget": 37584, "heldout": "0001-aaaaaaaa", "prompts": 19,
        "answered": 2, "leaks": 0,
    }  # fmt: skip


def seal(run: Run, made: dict[str, Any] | None = None, *, said: str = "옛날에 여우가 살았어요.", **how: Any) -> Version:
    """A version of these figures, in which every arm's first student says `said` and its name."""
    made = figures() if made is None else made
    names = [arm["arm"] for arm in made["arms"]]
    answers = {name: [f"{said} ({name})", "the second student's"] for name in names} | {"teacher": [said]}
    outputs = [
        {"id": f"p{n}", "prompt": f"Prompt {n}: {said}", "heldout": f"held out {n}", "answers": answers, "scores": {}}
        for n in range(3)
    ]
    files: dict[str, Any] = {"outputs.jsonl": outputs, "scores.jsonl": []}
    for place, name in enumerate(names):
        for seed in made["seeds"]:
            steps = [{"step": n, "loss": 9 / n + place / 10 + seed} for n in range(1, 20)]
            files[f"curves/{name}-{seed}.jsonl"] = [*steps, {"step": 19, "train_runtime": 3.0}]
    return sealed.seal(run, "ablate", files=files, figures=made, **{"notes": ["12 differences were tested"]} | how)
