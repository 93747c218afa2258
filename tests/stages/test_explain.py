"""filter --explain: values, other thresholds, rows on either side."""

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import app
from stages.explain import explain, histogram, kept, others
from stages.filter import FilterStage
from tests.helpers import record
from tests.stages.conftest import Workshop

VALUES = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=200).map(sorted)


@given(VALUES, st.floats(-1e6, 1e6, allow_nan=False))
def test_kept_is_what_a_threshold_keeps(values: list[float], threshold: float) -> None:
    """Counts by bisection are the counts by comparison; a row equal to its bound is kept from both sides."""
    assert kept(values, threshold, "min") == sum(v >= threshold for v in values)
    assert kept(values, threshold, "max") == sum(v <= threshold for v in values)


@given(VALUES)
def test_a_histogram_counts_every_row_once(values: list[float]) -> None:
    """Every value lies in one bin, and there is an edge more than there are bins."""
    edges, counts = histogram(values)
    assert sum(counts) == len(values)
    assert len(edges) == len(counts) + 1 and edges == sorted(edges)


@given(VALUES, st.floats(-1e6, 1e6, allow_nan=False))
def test_other_thresholds_lie_on_both_sides(values: list[float], bound: float) -> None:
    """The one that is set is among them, in order, and few."""
    found = others(values, bound)
    assert bound in found and found == sorted(set(found)) and len(found) <= 7


def filtered(workshop: Workshop, *rules: dict[str, object]) -> None:
    """A filter version over forty answers of growing length."""
    plan = yaml.safe_load(workshop.path.read_text())
    plan["filter"] = {"rules": list(rules)}
    workshop.path.write_text(yaml.safe_dump(plan))
    rows = [record("long " * n, id=f"r{n:02d}") for n in range(1, 41)]
    (workshop.folder / "rows.jsonl").write_bytes(b"".join(r.line() for r in rows))
    workshop.make("filter", input=str(workshop.folder / "rows.jsonl"))


def test_every_bound_is_explained(workshop: Workshop) -> None:
    """Both bounds of a rule and those of the next, over the rows that reached them, with the closest rows."""
    filtered(workshop, {"kind": "length", "min_chars": 50, "max_chars": 150}, {"kind": "script", "min_share": 0.9})
    stage, version = workshop.plan().stage("filter"), workshop.run.current("filter")
    assert isinstance(stage, FilterStage) and version is not None
    low, high, share = explain(stage, version)
    assert (low.setting, low.side, low.measured, low.kept) == ("min_chars", "min", 40, 30)
    assert (high.setting, high.side, high.measured, high.kept) == ("max_chars", "max", 40, 30)
    assert (share.rule, share.measured, share.kept) == ("script", 20, 20)
    assert [(s.id, s.value, s.kept) for s in low.samples] == [
        ("r09", 44, False), ("r10", 49, False), ("r11", 54, True), ("r12", 59, True),
    ]  # fmt: skip
    assert {n.threshold: n.kept for n in low.nearby}[50] == 30


def test_all_measures_what_was_dropped(workshop: Workshop) -> None:
    """With `measure: all` the second rule's values cover every row."""
    filtered(workshop, {"kind": "length", "min_chars": 50}, {"kind": "script", "min_share": 0.9})
    (version,) = workshop.make("filter", input=str(workshop.folder / "rows.jsonl"), overrides=("filter.measure=all",))
    stage = workshop.plan().stage("filter")
    assert isinstance(stage, FilterStage)
    assert [t.measured for t in explain(stage, version)] == [40, 40]
    assert version.manifest.counts == workshop.run.versions("filter")[0].manifest.counts


def test_the_command_tells_it(workshop: Workshop, monkeypatch: object) -> None:
    """`--explain --json` is data on stdout."""
    from typer.testing import CliRunner

    filtered(workshop, {"kind": "length", "min_chars": 50})
    runs = {"PIPELINE_RUNS": str(workshop.folder / "runs")}
    rows = ["filter", str(workshop.path), "--input", str(workshop.folder / "rows.jsonl"), "--explain"]
    told = CliRunner().invoke(app, [*rows, "--json", "--quiet"], env=runs)
    assert told.exit_code == 0, told.output
    (found,) = json.loads(told.stdout)
    assert (found["rule"], found["setting"], found["kept"]) == ("length", "min_chars", 30)
    shown = CliRunner().invoke(app, [*rows, "--quiet"], env=runs)
    assert "length: min_chars 50  keeps 30 of 40 measured" in shown.stdout
