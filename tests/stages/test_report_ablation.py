"""The report's section of an ablation: verdicts as they are, nothing planted that is more than text, a phone."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.run import Run
from pipeline.store import Version
from stages import flow, report
from stages.ablation.arms import Sources
from stages.ablation.study import Study
from stages.bootstrap import Interval
from stages.plan import load
from stages.report import ablation
from stages.report.base import Source
from tests.helpers import record, stub_model, write_plan
from tests.stages import ablated, reported, sealed
from tests.stages.test_report import EVIL, MARK, read
from tests.stages.test_report_phone import seen


class Made:
    """A folder with a plan, a run in which everything was run and ablated, and the report."""

    def __init__(self, folder: Path) -> None:
        self.path = reported.plan(folder)
        self.run = Run(folder / "runs/tiny")
        reported.everything(folder, [f"The {n}th tale of a fox, 여우 이야기 {n}." for n in range(40)], self.run)

    def write(self) -> Path:
        return report.write(load(self.path), self.run, self.path)

    def section(self) -> str:
        """What stands between the tags of the section, whitespace made one."""
        found = re.search(
            r'<section id="ablation">(.*?)</section>', self.write().read_text(encoding="utf-8"), re.DOTALL
        )
        assert found
        return re.sub(r"\s+", " ", found.group(1))

    def text(self) -> str:
        return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", self.section()))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_it_stands_after_the_evaluation(made: Made) -> None:
    """Arms, contrasts, answers, curves and notes; a run without an ablation says so."""
    ablated.seal(made.run)
    ids = [value for tag, name, value in read(made.write()).attributes if (tag, name) == ("section", "id")]
    assert ids[ids.index("evaluation") + 1] == "ablation"
    text = made.text()
    assert "has not been run" not in text
    for piece in ("2 students of each arm, trained on 37,584 tokens each", "the same 19 held-out prompts",
                  f"{ablated.STRICT} drawn of all generated 60 4.0 2.125 38.2 35.5 to 41.0", "untrained student",
                  "filtering filtered against random: better by 1, worse by 1 of 4 metrics",
                  "fewer rows random against unfiltered: better by 1 of 4 metrics", "12 differences were tested",
                  "옛날에 여우가 살았어요. (random)", "held-out answer held out 0",
                  "Loss of their first students"):  # fmt: skip
        assert piece in text, piece
    assert "the second student's" not in text and "Prompt 1" in text and "Prompt 2" not in text
    (made.run.path / "lock.json").unlink()
    reported.seal(made.run, "generate", [record()])
    assert made.text().strip() == "What each choice brought ablate has not been run."


def test_differences_are_told_as_they_are(made: Made) -> None:
    """Ratio, points, numbers, each with its interval; a verdict in words, and what no interval has says that."""
    ablated.seal(made.run)
    text = made.text()
    for piece in ("perplexity 10.0 11.0 × 1.02 0.97 to 1.07 no difference shown", "× 0.8 0.7 to 0.9 better",
                  "× 1.2 no interval", "chrF 1000% 1100% +1 points -2 to +4 no difference shown",
                  "-5 points -8 to -2 worse", "language kept 1000% 1100% +0 points the same",
                  "judge score 10 11 undefined no interval"):  # fmt: skip
        assert piece in text, piece


def test_better_is_right_of_the_line() -> None:
    """Whether more or less is better; strips of one metric share a scale, and no number leaves the strip."""
    pairs = ablated.PAIRS[:2]
    for metric, found in ((ablated.PERPLEXITY, (0.5, 0.25, 0.9)), (ablated.SCORE, (0.2, 0.1, 0.4))):
        rows = [ablated.contrast(pair, metric, Interval(*found, 9)) for pair in pairs]
        none, least = (1.0, 0.0) if metric.style == "perplexity" else (0.0, float("-inf"))
        rows[1]["difference"] = {"value": none, "low": least, "high": float("inf"), "n": 9}
        (one,), (other,) = (block.rows for block in ablation.blocks(ablated.figures() | {"contrasts": rows}))
        assert 50 < one.low < one.at < one.high <= 96 and one.verdict == "better"
        assert (other.low, other.at, other.high) == (4, 50, 96)
    tiny = [ablated.contrast(pair, ablated.SCORE, Interval(2e-6, 1e-6, 4e-6, 9)) for pair in pairs]
    assert ablation.blocks(ablated.figures() | {"contrasts": tiny})[0].rows[0].at > 60


def test_figures_that_were_lost_break_nothing(made: Made) -> None:
    """Infinite ones are null in a manifest."""
    figures = ablated.figures()
    for one in figures["contrasts"]:
        one["difference"] = {"value": None, "low": None, "high": None, "n": 9}
        one["before"] = None
    for arm in figures["arms"]:
        arm["values"] = {"perplexity": {"value": None, "low": None, "high": None, "n": 9}}
        arm["last_loss"] = None
    figures["beside"] = [{"model": "teacher", "values": {}, "costs": {}}]
    ablated.seal(made.run, figures)
    assert made.text().count("undefined no interval") == len(figures["contrasts"])
    ablated.seal(made.run, figures | {"contrasts": [], "metrics": []})
    assert "Differences" not in made.text()


def test_curves_of_many_arms_can_be_told_apart(made: Made) -> None:
    """A chart has as many lines as there are colours, and each of several has the plan's own arm."""
    ablated.seal(made.run)
    assert made.section().count('<path class="line') == 4 and made.section().count("<figure>") == 1
    ablated.seal(made.run, ablated.figures([f"v{n}" for n in range(13)]))
    charts = made.section().split("<figure>")[1:]
    assert [chart.count('<path class="line') for chart in charts] == [6, 6, 3]
    assert all('<span class="c0">v12</span>' in chart for chart in charts)


@pytest.fixture
def hostile(made: Made) -> Made:
    """Names, labels, answers, prompts and notes are attacks."""
    names = [f"{EVIL[0]} v{n} {attack}" for n, attack in enumerate(EVIL)]
    figures = ablated.figures(names, [(names[0], names[1], EVIL[1]), (names[2], names[3], EVIL[2])])
    for arm in figures["arms"]:
        arm["data"] = EVIL[3]
    for metric in figures["metrics"]:
        metric["label"] = EVIL[4]
    for one in figures["contrasts"]:
        one["label"] = EVIL[5]
    figures["beside"][0]["model"] = EVIL[6]
    said = " ".join(EVIL)
    answers = {name: [said] for name in names}
    rows = [{"id": "p", "prompt": said, "heldout": said, "answers": answers, "scores": {}}]
    curve = [{"step": n, "loss": 1 / n} for n in range(1, 9)]
    figures["arms"][1]["arm"] = 'v\'1" onload="x'
    files: dict[str, Any] = {"outputs.jsonl": rows, 'curves/v\'1" onload="x-7.jsonl': curve}
    sealed.seal(made.run, "ablate", files=files, figures=figures, notes=list(EVIL))
    return made


def test_what_was_planted_stays_text(hostile: Made) -> None:
    """A script in an arm's answer, in a variant's name, in a label or a note gives no element and no attribute."""
    reader = read(hostile.write())
    assert reader.elements["script"] == 2 and reader.elements["style"] == 1
    assert not {"img", "iframe", "form", "link"} & reader.elements.keys()
    assert not [mark for mark in reader.attributes if MARK.match(mark[1]) or mark[1] == "style"]
    assert all(attack in reader.text for attack in EVIL[:5])
    assert "\x1b" not in reader.text and "\u202e" not in reader.text and 'v\'1" onload="x' in reader.text
    assert "<figure>" in hostile.section()


def test_nothing_beside_the_version_is_read(made: Made) -> None:
    """A name that climbs out of the folder reads no file there, nor does one that the manifest has not."""
    outside = made.run.path / "ablate/secret-7.jsonl"
    version = ablated.seal(made.run, ablated.figures(["random", "../../secret"], [("random", "random", "x")]))
    assert outside.is_file() and "Loss of" in made.text()
    charts = ablation._curves(version.manifest.figures, version)
    assert [[line.name for line in chart.lines] for chart in charts] == [["random"]]


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_a_phone_shows_all_of_it(made: Made, tmp_path: Path) -> None:
    """At 360 px nothing has to be pushed sideways, though names are long; what was planted does not run."""
    long = ["엄격한심사기준" * 8, "W" * 60, "curated"]
    figures = ablated.figures(long, [(long[0], long[1], long[0]), (long[1], long[2], long[1])])
    reported.seal(made.run, "evaluate", figures={"models": [{"model": "trained", "a": 1}]})
    ablated.seal(made.run, figures, said=f"{EVIL[0]} {EVIL[2]} {'가' * 80} {'x' * 90}")
    whole = made.write().read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", whole), encoding="utf-8")
    for width in (360, 1280):
        found = seen(page, width)
        assert (found["over"], "ablation" in found["sideways"]) == (0, False)


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., tuple[Source, Version]]:
    """An ablation of a plan of two stages, and where the report reads; `sections` are the plan's."""
    model = str(stub_model(tmp_path / "student"))
    run = Run(tmp_path / "runs/tiny")

    def make(**sections: Any) -> tuple[Source, Version]:
        train = {"student": {"model": model}, "objective": {"kind": "sft"}}
        path = write_plan(tmp_path, train=train, evaluate={}, **sections)
        plan = load(path)
        if run.current("generate") is None:
            sealed.seal(run, "generate", [record(), record("held out", id="r2", split="heldout")])
        source = Source(plan, run, path, (), {step.stage: step for step in flow.status(plan, run)})
        if run.current("ablate") is None:
            study = Study(path, (), plan, run)
            rows = {name: Sources(plan, run).there(arm) for name, arm in study.arms.all.items()}
            study.sources = {name: version for name, version in rows.items() if version is not None}
            print_ = flow.fingerprint("ablate", study.settings(), [one.fingerprint for one in study.inputs()])
            ablated.seal(run, settings=study.settings(), inputs=study.inputs(), fingerprint=print_)
        return source, sealed.current(run, "ablate")

    return make


def test_an_ablation_says_when_it_is_old(fresh: Callable[..., tuple[Source, Version]]) -> None:
    """Not as it was made; after a setting, a variant or the rows have changed, with what has."""
    assert ablation.stale(*fresh()) == ""
    assert ablation.stale(*fresh(ablate={"keep_students": True})) == ""
    assert "ablate.seeds: 3 -> 5" in ablation.stale(*fresh(ablate={"seeds": 5}))
    variant = {"slow": {"set": {"train.objective.learning_rate": 0.5}}}
    assert "variants.slow" in ablation.stale(*fresh(ablate={"variants": variant}))
    source, version = fresh()
    sealed.seal(source.run, "generate", [record("another")])
    assert ablation.stale(source, version).startswith("it read generate 0001-")


def test_rows_that_are_not_there_make_it_old(fresh: Callable[..., tuple[Source, Version]], tmp_path: Path) -> None:
    """A stage that was added since, and a variant that is no valid plan, are told as such."""
    fresh()
    found = ablation.stale(*fresh(filter={"rules": [{"kind": "exact"}]}))
    assert "rows of filtered would have to be made first" in found
    broken = {"bad": {"set": {"train.objective.learning_rate": "much"}}}
    assert "ablate.variants.bad" in ablation.stale(*fresh(ablate={"variants": broken}))
    source, _ = fresh(ablate={"seeds": 5})
    page = report.write(source.plan, source.run, source.file, to=tmp_path / "page.html").read_text(encoding="utf-8")
    assert "This ablation is not what the plan asks for now: ablate.seeds: 3 -&gt; 5" in page
