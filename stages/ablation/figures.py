"""What an ablation found: every arm's figures, and every contrast's differences, with intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from stages.ablation.arms import Arms, Contrast
from stages.ablation.contrast import estimate
from stages.ablation.students import Student
from stages.bootstrap import Column, Interval
from stages.compare import Row
from stages.evaluate_figures import COSTS, Measured, ratio
from stages.scores.base import Columns, Metric, Paper
from stages.scores.judged import Duels

ASIDE = ("untrained", "teacher")


class Seen(NamedTuple):
    """What one model wrote, and everything that was measured on it."""

    paper: Paper
    columns: Columns
    measured: Measured


class Results(NamedTuple):
    """Everything that was measured: students by arm, models beside them, duels by contrast and judge."""

    arms: Arms
    students: dict[str, list[tuple[Student, Seen]]]
    aside: dict[str, Seen]
    """`untrained` (`untrained NAME` for another student) and `teacher`"""
    duels: list[tuple[Contrast, list[Duels]]]

    @property
    def metrics(self) -> list[Metric]:
        """In the order in which they came."""
        seen = [*(s for students in self.students.values() for _, s in students), *self.aside.values()]
        return list(dict.fromkeys(metric for one in seen for metric in one.columns))


def figures(results: Results) -> dict[str, Any]:
    """As the manifest has them."""
    rows = contrasts(results)
    return {
        "own": results.arms.own,
        "arms": [_arm(results, name) for name in results.students],
        "beside": [_beside(results, name, seen) for name, seen in results.aside.items()],
        "metrics": [metric._asdict() for metric in results.metrics],
        "contrasts": [
            contrast._asdict()
            | row._asdict()
            | {"difference": row.difference and row.difference.plain(), "verdict": row.verdict}
            for contrast, row in rows
        ],
    }


def level(metric: Metric, columns: Sequence[Column]) -> Interval | None:
    """The metric's mean over students, a column each; over prompts alone where there is one student."""
    found = estimate([columns])
    if found is None:
        return None
    low, high = (None if end is None else metric.value(end) for end in found[1:3])
    return Interval(metric.value(found.value), low, high, found.n)


def contrasts(results: Results) -> list[tuple[Contrast, Row]]:
    """Each contrast by each metric of which more or less is better, duels last.

    A perplexity where both arms read the same tokens, else bits a byte: the two say the same.
    """
    found = []
    for contrast in results.arms.contrasts:
        one, other = (results.students[arm][0][1].columns for arm in (contrast.first, contrast.second))
        left = "bits" if _same_tokens(one, other) else "perplexity"
        for metric in results.metrics:
            if metric.better and metric.style != left and (row := _row(results, contrast, metric)) is not None:
                found.append((contrast, row))
        for duelled, duels in results.duels:
            if duelled == contrast and (won := _won(contrast, duels)) is not None:
                found.append((contrast, won))
    return found


def _columns(results: Results, arm: str, metric: Metric) -> list[Column]:
    return [seen.columns[metric] for _, seen in results.students[arm] if metric in seen.columns]


def _row(results: Results, contrast: Contrast, metric: Metric) -> Row | None:
    first, second = (_columns(results, arm, metric) for arm in (contrast.first, contrast.second))
    if not first or not second:
        return None
    found = estimate([first, second])
    if found is not None and _folders(results, contrast.first) == _folders(results, contrast.second):
        found = Interval(0.0, n=found.n)  # not only alike: they are the same students
    before, after = (level(metric, columns) for columns in (second, first))
    return Row(
        contrast.first, metric.name, metric.label, metric.style, metric.better, before and before.value,
        after and after.value, found and ratio(metric, found), found.n if found else 0, True,
    )  # fmt: skip


def _won(contrast: Contrast, duels: list[Duels]) -> Row | None:
    """How often the first arm's answer was the better one; the difference is from a half."""
    found = estimate([[duel.column for duel in duels]])
    if found is None:
        return None
    low, high = (None if end is None else end - 0.5 for end in found[1:3])
    judge = duels[0].judge
    return Row(
        contrast.first, f"{judge}_wins", f"{judge}: win rate", "share", "higher", None, found.value,
        Interval(found.value - 0.5, low, high, found.n), found.n, True,
    )  # fmt: skip


def _folders(results: Results, arm: str) -> list[str]:
    return [student.folder.name for student, _ in results.students[arm]]


def _same_tokens(one: Columns, other: Columns) -> bool:
    """Whether perplexities are of the same tokens, as far as their numbers tell."""
    return all(
        [score and score.weight for score in one[metric]] == [score and score.weight for score in other[metric]]
        for metric in one
        if metric.style == "perplexity" and metric in other
    )


def _values(metrics: list[Metric], columns: dict[Metric, list[Column]]) -> dict[str, Any]:
    levels = {metric.name: level(metric, columns[metric]) for metric in metrics if columns.get(metric)}
    return {name: found.plain() for name, found in levels.items() if found is not None}


def _arm(results: Results, name: str) -> dict[str, Any]:
    arm, students = results.arms.all[name], results.students[name]
    trained = [student.figures for student, _ in students]
    mean = {key: _mean([one.get(key) for one in trained]) for key in ("tokens", "seen", "last_loss")}
    columns = {metric: _columns(results, name, metric) for metric in results.metrics}
    return {
        "arm": name,
        "data": arm.words,
        "stage": arm.stage,
        "from": students[0][0].source.name,
        "student": name if arm.other_student else "",
        "students": len(students),
        "rows": round(_mean([one["rows"] for one in trained]) or 0),
        "parameters": trained[0]["parameters"],
        **mean,
        "values": _values(results.metrics, columns),
        "costs": {key: value for key, value in students[0][1].measured.items() if key in COSTS},
    }


def _beside(results: Results, name: str, seen: Seen) -> dict[str, Any]:
    columns: dict[Metric, list[Column]] = {metric: [column] for metric, column in seen.columns.items()}
    costs = {key: value for key, value in seen.measured.items() if key in COSTS}
    return {"model": name, "values": _values(results.metrics, columns), "costs": costs}


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
