"""Two evaluations side by side, and the tables of one: differences prompt against prompt, readable in 100 columns."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from pipeline import console
from pipeline.cli import app
from pipeline.errors import UsageError
from pipeline.run import Run
from pipeline.store import Manifest, Version, VersionWriter
from stages.bootstrap import Interval, Score
from stages.compare import Compared, Row, compare, named
from stages.evaluate_figures import Results, figures, outputs
from stages.scores.base import Example, Metric, Paper
from stages.tables_evaluate import compared, evaluated, shown
from tests.helpers import record, write_plan

GOOD = Metric("judge_score", "judge score")
LESS = Metric("perplexity", "perplexity", "lower", "perplexity")
EITHER = Metric("distinct_2", "distinct-2", "", "share")


def evaluation(run: Run, shift: float = 0.0, first: int = 0, seed: str = "") -> Version:
    """A version over prompts `first` to `first + 20`; the trained student is better by once or twice `shift`."""
    examples = [
        Example(record("A fox.", id=f"r{n}", prompt=f"Number {n}?"), ("A fox.",)) for n in range(first, first + 20)
    ]
    answers = {"teacher": "달이 떴다 [bold]", "untrained": "\x1b[31mzq", "trained": "A fox ran."}
    papers = {name: Paper(examples, [text] * 20) for name, text in answers.items()}
    cost = {"tokens_per_second": 73.4, "peak_memory": 5 * 2**20, "parameters": 46_000_000, "disk": 0}
    results = Results(papers, {name: {"probes": [], **cost, "first_token_seconds": 0.05} for name in papers})
    for name, level in {"teacher": 4.0, "untrained": 1.0, "trained": 3.0}.items():
        more = [shift * (1 + n % 2) if name == "trained" else 0.0 for n in range(20)]
        noise = [((first + n) * 7 % 11) / 20 for n in range(20)]
        results.add(name, {
            LESS: [Score(9 - 2 * level - 2 * m + x, 10) for x, m in zip(noise, more, strict=True)],
            GOOD: [Score(level + m + x) for x, m in zip(noise, more, strict=True)],
            EITHER: [Score(0.5 + x / 10, 3) for x in noise],
        })  # fmt: skip
    fingerprint = f"{len(run.folders('evaluate')) + 1:08x}" * 8
    folder = run.folder_for("evaluate", fingerprint)
    settings = {"seed": 1, "evaluate": {"rows": 20, "note": seed}}
    writer = VersionWriter(
        folder, Manifest(stage="evaluate", version=folder.name, fingerprint=fingerprint, settings=settings, inputs=[])
    )
    writer.begin()
    writer.manifest.figures = figures(results, 1) | {"leaks": {"rows": 0, "ids": []}}
    rows = outputs(results, [], [], [])
    (folder / "outputs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return writer.seal()


def rows(found: Compared) -> dict[tuple[str, str], Row]:
    return {(row.model, row.metric): row for row in found.rows}


def printed(thing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    console.print_out(thing)
    return capsys.readouterr().out


def test_differences_are_paired_and_judged_by_which_way_is_better(tmp_path: Path) -> None:
    """The trained student got better on every prompt; the others stayed as they were."""
    run = Run(tmp_path)
    found = rows(compare(evaluation(run), evaluation(run, shift=0.2), seed=1))
    score, loss = found["trained", "judge_score"], found["trained", "perplexity"]
    assert score.difference is not None and score.difference.value == pytest.approx(0.3)
    assert (score.shared, score.paired) == (20, True)
    assert score.before == pytest.approx((score.after or 0) - 0.3)
    assert score.verdict == loss.verdict == "better"
    assert loss.difference is not None and loss.difference.value == pytest.approx(2.718281828**-0.6)
    assert found["teacher", "judge_score"].difference is not None
    assert found["teacher", "judge_score"].verdict == found["teacher", "perplexity"].verdict == "the same"


@pytest.mark.parametrize(
    ("metric", "ends", "verdict"),
    [
        (GOOD, (0.2, 0.1, 0.3), "better"),
        (GOOD, (-0.2, -0.3, -0.1), "worse"),
        (GOOD, (0.1, -0.1, 0.3), "no difference shown"),
        (LESS, (0.8, 0.7, 0.9), "better"),
        (LESS, (1.2, 1.1, 1.3), "worse"),
        (LESS, (1.05, 0.9, 1.2), "no difference shown"),
        (EITHER, (0.2, 0.1, 0.3), ""),
        (GOOD, (0.2, None, None), ""),
    ],
)
def test_verdicts(metric: Metric, ends: Any, verdict: str) -> None:
    row = Row("trained", metric.name, metric.label, metric.style, metric.better, 1, 1, Interval(*ends), 9, True)
    assert row.verdict == verdict


def test_only_shared_prompts_are_paired(tmp_path: Path) -> None:
    run = Run(tmp_path)
    half = rows(compare(evaluation(run), evaluation(run, first=10), seed=1))["trained", "judge_score"]
    assert (half.shared, half.paired) == (10, True)
    assert half.difference is not None and half.difference.value == pytest.approx(0)
    none = rows(compare(evaluation(run), evaluation(run, first=40), seed=1))["trained", "judge_score"]
    assert not none.paired and none.difference is not None and none.difference.low is not None


def test_settings_that_differ_are_told_and_old_or_damaged_evaluations_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first, second = evaluation(run), evaluation(run, seed="x")
    assert compare(first, second, 1).notes == ["evaluate.note:  -> x"]
    assert named(run, "1").name == first.name
    assert named(run, str(second.path)).name == second.name
    with pytest.raises(UsageError, match="no version 9"):
        named(run, "9")
    (second.path / "outputs.jsonl").unlink()
    with pytest.raises(UsageError, match="older release"):
        named(run, "2")


def test_the_tables_fit_100_columns_and_hold_no_terminal_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    first, second = evaluation(run), evaluation(run, shift=0.5)
    one = printed(evaluated(first), monkeypatch, capsys)
    both = printed(compared(compare(first, second, 1)), monkeypatch, capsys)
    for text in (one, both):
        assert all(cell_len(line) <= 100 for line in text.splitlines())
        assert "\x1b" not in text
    assert "gap recovered" in one and "67%" in one and "perplexity" in one and "46.0 M" in one
    assert "better" in both and "x0.223" in both and "no difference shown" not in both
    (line,) = (line for line in one.splitlines() if line.startswith("judge score"))
    assert line.count("(") == 3, "every model's interval; all draws have the same gap, so it has none"


@pytest.mark.parametrize(
    ("style", "value", "text"),
    [
        ("share", 0.125, "12%"),
        ("bits", 0.60647, "0.606"),
        ("perplexity", 12690.4, "12,690"),
        ("perplexity", 5.31, "5.3"),
        ("number", 3.14159, "3.14"),
        ("number", 1234.5, "1,234"),
        ("number", 0.0347, "0.035"),
    ],
)
def test_values_as_people_read_them(style: Any, value: float, text: str) -> None:
    assert shown(style, value) == text


def test_the_command_compares_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_RUNS", str(tmp_path / "runs"))
    run = Run(tmp_path / "runs/tiny")
    evaluation(run), evaluation(run, shift=0.2)
    plan = str(write_plan(tmp_path))
    before = sorted(p for p in tmp_path.rglob("*"))
    done = CliRunner().invoke(app, ["evaluate", plan, "--compare", "1", "2", "--json"])
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    (row,) = (r for r in found["metrics"] if (r["model"], r["metric"]) == ("trained", "judge_score"))
    assert row["difference"]["value"] == pytest.approx(0.3)
    assert sorted(p for p in tmp_path.rglob("*")) == before
    done = CliRunner().invoke(app, ["evaluate", plan, "--compare", "1", "2"])
    assert done.exit_code == 0 and "judge score" in done.stdout
