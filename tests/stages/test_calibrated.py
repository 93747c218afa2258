"""What a calibration found stays in the run's folder: the report and the card show it, and say what has changed."""

import shutil
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.run import Run
from stages import report
from stages.agreement import Figure
from stages.calibrate import Calibration, Options
from stages.calibrated import Calibrated, gold_file, keep, kept
from stages.card_data import card
from stages.card_facts import gather
from stages.card_files import Want
from stages.formats.export import rows_of
from stages.plan import Plan, load
from tests.stages.sealed import GOLDEN, current, golden
from tests.stages.test_calibrate import Bench, bench, scored, worth
from tests.stages.test_report import read

__all__ = ["bench"]  # a fixture
PLAN = GOLDEN / "preference/plan.yaml"
FOUND = Calibration(
    "judge", "scores", 60, {"unreadable_verdict": 2},
    [Figure("spearman", 0.625, 0.425, 0.755), Figure("kappa", None), Figure("threshold_rows", 1200.0)],
    ["no better than answer length"],
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Run]:
    """A run with a judge; tests read it only."""
    return golden("preference", tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(finished: tuple[Plan, Run], tmp_path: Path) -> Run:
    """The same, to write to."""
    shutil.copytree(finished[1].path, tmp_path / "run")
    return Run(tmp_path / "run")


def gold(folder: Path, name: str = "people.jsonl", text: str = "marks") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def put(run: Run, file: Path, *overrides: str, found: Calibration = FOUND) -> Path:
    """Keep a calibration of the plan with these settings."""
    (path,) = keep(load(PLAN, overrides), run, gold_file(file), Options(good_from=3), [found])
    return path


def page(run: Run, to: Path) -> str:
    """The report's text."""
    return " ".join(read(report.write(load(PLAN), run, PLAN, to=to)).text.split())


def test_everything_is_kept(run: Run, tmp_path: Path) -> None:
    """Figures with their intervals, which gold, what was asked with: all of it comes back."""
    file = gold(tmp_path)
    put(run, file)
    (one,), problems = kept(run)
    assert problems == []
    assert [found.figure for found in one.figures] == FOUND.figures
    assert (one.rule, one.gold, one.rows, one.unmeasured) == ("judge", "people.jsonl", 60, {"unreadable_verdict": 2})
    assert one.sha256 == gold_file(file).sha256 and one.options["good_from"] == 3 and one.notes == FOUND.notes
    assert one.main() == FOUND.figures[:1]
    assert one.changed(current(run, "filter")) == []


def test_the_newest_counts(run: Run, tmp_path: Path) -> None:
    """The same rule and gold file again replace what was known, marks that were added or not; another file does not."""
    file = gold(tmp_path)
    first = put(run, file)
    gold(tmp_path, text="more marks")
    assert put(run, file, found=FOUND._replace(rows=99)) == first
    assert put(run, gold(tmp_path / "other")) != first
    assert sorted(one.rows for one in kept(run)[0]) == [60, 99]


def test_changed_settings_are_named(run: Run, tmp_path: Path) -> None:
    """Of the rule and of the model that was asked; a rule that is not there any more."""
    version = current(run, "filter")
    rules = version.manifest.settings["filter"]["rules"]
    nth = next(n for n, rule in enumerate(rules) if rule["kind"] == "judge")
    old = rules[nth]["min_score"]
    put(run, gold(tmp_path), f"filter.rules.{nth}.min_score=1.5")
    (one,), _ = kept(run)
    assert one.changed(version) == [f"min_score: 1.5 -> {old}"]
    models = [model | {"revision": "before"} for model in one.models]
    assert any("before ->" in change for change in one.model_copy(update={"models": models}).changed(version))
    assert one.model_copy(update={"rule": "gone"}).changed(version) == ["the version has no rule of that name"]


def test_a_report_shows_it(run: Run, tmp_path: Path) -> None:
    """Figures, gold, how many rows; what has changed since; a file that is broken is named and no more."""
    assert "Not compared with people" in page(run, tmp_path / "page.html")
    file = gold(tmp_path, "<b>.jsonl")
    put(run, file)
    text = page(run, tmp_path / "page.html")
    assert "spearman 0.62 0.42 to 0.76" in text and "kappa undefined" in text and "threshold rows 1,200" in text
    assert f"Asked about 60 scores of people in <b>.jsonl (sha256 {gold_file(file).sha256[:8]})" in text
    assert "no verdict on 2 (unreadable verdict)" in text and "no better than answer length" in text
    assert "Not compared with people" not in text and "other settings" not in text and str(tmp_path) not in text
    path = put(run, file, "filter.rules.0.min_score=1.5")
    text = page(run, tmp_path / "page.html")
    assert "with other settings than this version's: min_score: 1.5 -> 1.8" in text
    path.write_bytes(path.read_bytes().replace(b'"rule": "judge"', b'"rule": "length"'))
    assert "length beside people" in page(run, tmp_path / "page.html")
    for broken in (b'{"rule": 3}', b"no JSON", b"[]"):
        path.write_bytes(broken)
        assert f"review/{path.name} cannot be read: delete it" in page(run, tmp_path / "page.html")


def test_a_card_has_a_line_of_it(run: Run, tmp_path: Path) -> None:
    """How far the judge agrees, by how many marks; and that its settings were others."""
    file = gold(tmp_path)
    put(run, file)
    rows = rows_of(run)
    text = card(gather(load(PLAN), run, rows), Want())
    assert "- judge: spearman 0.62 (0.42 to 0.76), by 60 scores in `people.jsonl` (95 % intervals)\n" in text
    assert "not recorded" not in text and str(tmp_path) not in text
    one = orjson.loads(next(run.path.glob("review/calibrated-*.json")).read_bytes())
    one["settings"]["min_score"] = 1.5
    next(run.path.glob("review/calibrated-*.json")).write_bytes(orjson.dumps(one))
    assert "(95 % intervals), asked with other settings" in card(gather(load(PLAN), run, rows), Want())


def test_the_command_keeps_what_it_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """stdout is as ever; the run's folder has the figures of the judge as it was asked."""
    bench.judge(worth, min_score=4)
    file = bench.workshop.folder / "gold.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in scored()))
    monkeypatch.setenv("PIPELINE_RUNS", str(bench.workshop.run.path.parent))
    done = CliRunner().invoke(app, ["calibrate", str(bench.workshop.path), "--gold", str(file), "--json", "-q"])
    assert done.exit_code == 0, done.output
    (said,) = orjson.loads(done.stdout)
    (one,), _ = kept(bench.workshop.run)
    assert isinstance(one, Calibrated) and (one.rule, one.rows, one.gold) == ("judge", 60, "gold.jsonl")
    assert [found.model_dump() for found in one.figures] == said["figures"]
    assert one.settings["min_score"] == 4 and one.models[0]["model"] == "scripted/teacher"
