"""What an ablation writes beside its manifest: students, answers, curves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.store import write_jsonl
from stages.ablation.figures import Results
from stages.bootstrap import mean


def write(folder: Path, results: Results) -> None:
    """`scores.jsonl`, `outputs.jsonl`, and `curves/` with the log of every training."""
    write_jsonl(folder / "scores.jsonl", _scores(results))
    write_jsonl(folder / "outputs.jsonl", _outputs(results))
    (folder / "curves").mkdir()
    for students in results.students.values():
        for student, _ in students:
            curve = (student.folder / "metrics.jsonl").read_bytes()
            (folder / "curves" / f"{student.arm.name}-{student.seed}.jsonl").write_bytes(curve)


def _scores(results: Results) -> Iterator[dict[str, Any]]:
    """A line a student."""
    for name, students in results.students.items():
        for student, seen in students:
            values = {metric.name: metric.value(found) for metric, column in seen.columns.items()
                      if (found := mean(column)) is not None}  # fmt: skip
            yield {"arm": name, "seed": student.seed, "folder": student.folder.name} | student.figures | values


def _outputs(results: Results) -> Iterator[dict[str, Any]]:
    """A line a held-out prompt: every arm's answer and scores, a list of one a student."""
    models = {name: [seen for _, seen in students] for name, students in results.students.items()}
    models |= {name: [seen] for name, seen in results.aside.items()}
    examples = models[results.arms.own][0].paper.examples
    for n, example in enumerate(examples):
        row: dict[str, Any] = {"id": example.record.id, "prompt": example.record.prompt}
        row |= {"heldout": example.references[0], "answers": {}, "scores": {}}
        for name, all_seen in models.items():
            row["answers"][name] = [seen.paper.answers[n] for seen in all_seen if n < len(seen.paper.answers)]
            for metric in all_seen[0].columns:
                column = [seen.columns[metric] for seen in all_seen]
                if metric.on == "prompt":
                    scores = [c[n] if n < len(c) else None for c in column]
                    if any(scores):
                        row["scores"].setdefault(name, {})[metric.name] = [score and score.value for score in scores]
        yield row
