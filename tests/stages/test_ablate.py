"""Ablations over tiny models: what filtering brings where it brings something, what is trained once and never again."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from pipeline import cli_ablate, console
from pipeline.engines import Completion, Request
from pipeline.errors import PipelineError, UsageError
from pipeline.store import Version
from stages import child, measure, training, verify
from stages.ablation import study as studies
from stages.ablation.forecast import forecast
from stages.ablation.students import Lab
from stages.ablation.study import Study, ablate
from stages.show import lines
from tests.helpers import write_plan
from tests.stages import tiny
from tests.stages.conftest import Workshop, number

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

GOOD = ("the fox found a boat and ran home .", "the bear found a boat and ran home .")
NOISE = ("? ? moon moon ? tell tell ? me me", "me moon ? ? about about ? tell moon moon")
TRAIN: dict[str, Any] = {
    "student": {"init": {"layers": [0, 3]}},
    "objective": {
        "kind": "sft", "num_train_epochs": 6, "learning_rate": 0.01, "per_device_train_batch_size": 4, "max_length": 64,
    },
}  # fmt: skip
FIRST = ("generate", "filter")


def teacher(request: Request) -> Completion:
    """Three of four answers are noise, and the judge knows."""
    if request.choices:
        good = "boat" in request.messages[-1].content
        return Completion(text="5" if good else "1", completion_tokens=1)
    n = number(request)
    return Completion(text=NOISE[n // 4 % 2] if n % 4 else GOOD[n // 4 % 2], finish_reason="stop", completion_tokens=9)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures are taken here: a process a model costs seconds, and memory is not what these tests look at."""

    def here(module: str, job: dict[str, Any], bar: console.Bar, log: Path) -> dict[str, Any]:
        assert module == "stages.measure"
        return dict(orjson.loads(orjson.dumps(measure.measure(job, bar.advance))))

    monkeypatch.setattr(child, "ask", here)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the trainings, as they happen."""
    seeds: list[int] = []
    teach = training.teach

    def noted(lesson: training.Lesson, *more: Any) -> training.Taught:
        seeds.append(lesson.seed)
        return teach(lesson, *more)

    monkeypatch.setattr(training, "teach", noted)
    return seeds


class Lecture:
    """A plan over prompts of numbers, whose filters drop the noise."""

    def __init__(self, workshop: Workshop, recorded: Callable[..., None]) -> None:
        self.workshop, self.run, self._recorded = workshop, workshop.run, recorded

    def plan(self, **sections: Any) -> None:
        """Write it; what it generates and filters is there."""
        axes = {"prompt": [f"Tell me about number {n}." for n in range(10, 90)]}
        plan: dict[str, Any] = {
            "generate": {"source": {"kind": "grid", "axes": axes}, "task": {"kind": "respond"}, "heldout": 0.3},
            "filter": {"measure": "all", "rules": [
                {"kind": "words", "banned": ["moon"]}, {"kind": "judge", "prompt": self.workshop.rubric("rate")},
            ]},
            "train": TRAIN,
            "evaluate": {"answers": 0, "samples": 0},
        }  # fmt: skip
        write_plan(self.workshop.folder, **plan | sections)
        tiny.folder(self.workshop.folder / "model")
        if self.run.current("filter") is None:
            self._recorded(*FIRST, script=teacher)
            self.workshop.make(*FIRST)

    def study(self, *overrides: str) -> Study:
        """The ablation of the plan as it is."""
        return Study(self.workshop.path, overrides, self.workshop.plan(*overrides), self.run)

    def ablate(self, *overrides: str) -> Version:
        """Its version."""
        return ablate(self.study(*overrides))


@pytest.fixture
def lecture(workshop: Workshop, recorded: Callable[..., None]) -> Lecture:
    return Lecture(workshop, recorded)


def contrast(version: Version, first: str, second: str, metric: str = "perplexity") -> dict[str, Any]:
    """One row of what was found."""
    found = version.manifest.figures["contrasts"]
    (row,) = (c for c in found if (c["first"], c["second"], c["metric"]) == (first, second, metric))
    return dict(row)


def arms(version: Version) -> dict[str, dict[str, Any]]:
    return {arm["arm"]: arm for arm in version.manifest.figures["arms"]}


def test_filtering_that_helps_is_shown(lecture: Lecture, trained: list[int]) -> None:
    """Where three of four answers are noise: as many rows and tokens, without the noise, and the interval says so."""
    lecture.plan(ablate={"seeds": 5, "rows": 10, "arms": ["random", "filtered"]})
    before = (lecture.run.path / "lock.json").read_bytes()
    made = lecture.ablate()
    found = contrast(made, "filtered", "random")
    assert found["verdict"] == "better" and found["brought"] == "filtering"
    assert found["difference"]["high"] < 1 < found["before"] / found["after"]
    figures, by = made.manifest.figures, arms(made)
    assert {name: arm["rows"] for name, arm in by.items()} == {"random": 10, "filtered": 10}
    assert figures["budget"] == pytest.approx(by["filtered"]["seen"], rel=0.05)
    for arm in by.values():  # to the nearest step of four rows
        assert arm["seen"] == pytest.approx(figures["budget"], abs=4 * 21)
    assert sorted(trained) == sorted(2 * [3, 4, 5, 6, 7])
    rows = lines(made.path / "scores.jsonl", 99)
    assert [(row["arm"], row["seed"]) for row in rows] == [(arm, seed) for arm in by for seed in (3, 4, 5, 6, 7)]
    assert any("which favours students of filtered rows" in note for note in made.manifest.notes)
    assert (made.path / "curves/filtered-4.jsonl").stat().st_size
    assert not list(lecture.run.path.glob("ablate/students/*/model")), "weights are kept only where they are asked for"
    pointers = orjson.loads((lecture.run.path / "lock.json").read_bytes())["current"]
    assert pointers == orjson.loads(before)["current"] | {"ablate": made.name}
    assert verify.examine(lecture.run).problems == []


def test_nothing_is_trained_twice(lecture: Lecture, trained: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed among its students, run again, asked for one seed and one arm more: only what is new is trained."""
    section = {"seeds": 1, "rows": 10, "arms": ["random", "filtered"]}
    lecture.plan(ablate=section)
    train = Lab.train

    def killed(self: Lab, student: Any, ready: Any) -> None:
        if trained:
            raise KeyboardInterrupt
        train(self, student, ready)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lab, "train", killed)
        lecture.ablate()
    assert trained == [3] and lecture.run.versions("ablate") == []
    made = lecture.ablate()
    assert trained == [3, 3]
    assert lecture.ablate().name == made.name and trained == [3, 3]
    lecture.plan(ablate=section | {"seeds": 2, "variants": {"slow": {"set": {"train.objective.learning_rate": 1e-3}}}})
    more = lecture.ablate()
    assert sorted(trained) == [3, 3, 3, 4, 4, 4]
    assert contrast(more, "slow", "filtered")["verdict"] == "worse"
    again = {(row["arm"], row["seed"]): row["perplexity"] for row in lines(more.path / "scores.jsonl", 99)}
    assert again["filtered", 3] == lines(made.path / "scores.jsonl", 99)[1]["perplexity"]


def test_an_interrupted_training_goes_on(lecture: Lecture, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its checkpoint, to the same student as one that was never interrupted."""
    lecture.plan(ablate={"seeds": 1, "rows": 10, "arms": ["filtered"]})
    save = training._save

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "_save", killed)
        lecture.ablate()
    said: list[str] = []
    monkeypatch.setattr(console, "say", said.append)
    made = lecture.ablate()
    assert any(word.startswith("going on from checkpoint-") for word in said)
    assert training._save is save
    (one,) = lines(made.path / "scores.jsonl", 9)
    whole = Lecture(lecture.workshop, lecture._recorded)
    (folder,) = (lecture.run.path / "ablate/students").glob("*/figures.json")
    folder.unlink()
    made.path.rename(made.path.with_name("aside"))
    (other,) = lines(whole.ablate().path / "scores.jsonl", 9)
    assert other["perplexity"] == pytest.approx(one["perplexity"], rel=1e-6)


def test_no_difference_is_said_to_be_none(lecture: Lecture) -> None:
    """The same students under two names are the same; another order of rows shows no difference."""
    again = {"set": {"train.max_cut": 0.5}}
    other = {"set": {"train.objective.train_sampling_strategy": "sequential"}}
    lecture.plan(ablate={"seeds": 2, "rows": 10, "arms": ["filtered"], "variants": {"again": again, "other": other}})
    made = lecture.ablate()
    assert contrast(made, "again", "filtered")["verdict"] == "the same"
    assert contrast(made, "other", "filtered")["verdict"] == "no difference shown"


def test_pass_rates(lecture: Lecture) -> None:
    """The best rows by a score, those that filters dropped among them."""
    rates = {"tenth": {"pass_rate": 0.19}, "most": {"pass_rate": 0.9}}
    lecture.plan(ablate={"seeds": 2, "rows": 10, "arms": ["random"], "variants": rates})
    made = lecture.ablate()
    found = [(c["first"], c["second"]) for c in made.manifest.figures["contrasts"]]
    assert found == [("filtered", "random"), ("tenth", "random"), ("most", "random")], "the plan's own is always there"
    assert contrast(made, "tenth", "random")["difference"]["value"] < 0.9
    assert arms(made)["tenth"]["data"] == "drawn of the best 19% by judge"
    said = [[row["completion"][0]["content"] for row in lines(file, 99)]
            for file in (lecture.run.path / "ablate/students").glob("*/rows.jsonl")]  # fmt: skip
    assert all(len(rows) == 10 for rows in said)
    assert sum(all(answer in GOOD for answer in rows) for rows in said) == 4, "filtered and tenth, two seeds each"
    lecture.plan(
        ablate={"variants": {"all": {"pass_rate": 0.5, "score": "words"}, "none": {"pass_rate": 0.5, "score": "x"}}}
    )
    with pytest.raises(
        PipelineError, match=r"x has measured 0 of 53 rows for training.*pass rate of 50%\nhint: filter"
    ):
        lecture.ablate()


def test_the_plan_s_own_student_is_taken_over(lecture: Lecture, trained: list[int]) -> None:
    """What `pipeline train` has made of the very same rows, settings and seed is not trained again."""
    lecture.plan(ablate={"seeds": 2, "arms": ["filtered"]})
    (before,) = lecture.workshop.make("train")
    own = lecture.study()
    own.make_sources()
    half = studies.laboratory(own)[0].student(own.own, 3, own.sources["filtered"], own.rows, None).folder / "model"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    made = lecture.ablate()
    assert trained == [3, 4] and not half.exists()
    first, second = lines(made.path / "scores.jsonl", 9)
    assert first["train_version"] == before.name and "train_version" not in second
    assert first["seen"] == second["seen"] == made.manifest.figures["budget"]
    assert (before.path / "model/model.safetensors").is_file()


def test_other_students_of_the_same_rows(lecture: Lecture) -> None:
    """Each beside its own untrained self; the same tokenizer, so perplexities are compared."""
    others = {"one-layer": {"init": {"layers": [0]}}, "whole": {"init": {"layers": [0, 1, 2, 3]}}}
    lecture.plan(ablate={"seeds": 1, "arms": ["unfiltered"], "cross_architecture": others, "keep_students": True})
    made = lecture.ablate()
    by = arms(made)
    assert by["unfiltered"]["rows"] == 53 and by["unfiltered"]["seen"] == pytest.approx(by["filtered"]["seen"], rel=0.2)
    assert by["one-layer"]["parameters"] < by["filtered"]["parameters"] < by["whole"]["parameters"]
    beside = {one["model"]: one["values"]["perplexity"]["value"] for one in made.manifest.figures["beside"]}
    assert list(beside) == ["untrained", "untrained one-layer", "untrained whole", "teacher"]
    assert beside["untrained whole"] == pytest.approx(beside["teacher"], rel=1e-4)
    assert by["whole"]["values"]["perplexity"]["value"] < beside["untrained whole"]
    assert contrast(made, "whole", "filtered")["brought"] == "the student whole"
    assert by["one-layer"]["rows"] == by["filtered"]["rows"]
    assert len(list(lecture.run.path.glob("ablate/students/*/model/model.safetensors"))) == 4


def test_judges(lecture: Lecture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that grades gives every arm a score; one that compares pairs, students against students of the other arm."""
    pair = lecture.workshop.folder / "pair.md"
    pair.write_text(
        "---\nabout: Which is better.\nneeds: [prompt, answer_a, answer_b, fence]\n---\n>>> user\n"
        "number {{ prompt }} <a-{{ fence }}>{{ answer_a }}</a-{{ fence }}> second <b-{{ fence }}>{{ answer_b }}"
        "</b-{{ fence }}>\n"
    )
    judges = [{"kind": "judge", "prompt": lecture.workshop.rubric("rate")}, {"kind": "pairwise", "prompt": "pair.md"}]
    lecture.plan(
        evaluate={"answers": 4, "samples": 0, "sampling": {"temperature": 0.0, "max_tokens": 9}, "judges": judges},
        ablate={"seeds": 2, "rows": 10, "arms": ["random", "filtered"]},
    )
    asked: list[Request] = []

    def script(request: Request) -> Completion:
        asked.append(request)
        text = request.messages[-1].content
        if request.choices == ("A", "B"):
            first, second = (part.split("</")[0] for part in text.split("second"))
            return Completion(text="B" if "boat" in second and "boat" not in first else "A", completion_tokens=1)
        return Completion(text="5" if "boat" in text else "1", completion_tokens=1)

    from pipeline.engines.replay import Replay
    from tests.helpers import opens_scripted

    monkeypatch.setattr(Replay, "open", opens_scripted(script))
    made = lecture.ablate()
    score = contrast(made, "filtered", "random", "judge_score")
    assert 1 <= score["before"] <= score["after"] <= 5
    wins = contrast(made, "filtered", "random", "pairwise_wins")
    assert 0 <= wins["after"] <= 1 and wins["difference"]["value"] == pytest.approx(wins["after"] - 0.5)
    assert asked
    rows = lines(made.path / "outputs.jsonl", 99)
    assert [len(rows[0]["answers"][arm]) for arm in ("random", "filtered", "untrained", "teacher")] == [2, 2, 1, 1]
    assert rows[0]["scores"]["filtered"]["judge_score"] and "judge_score" not in rows[-1]["scores"]["filtered"]
    asked.clear()
    lecture.plan(
        evaluate={"answers": 4, "samples": 1, "sampling": {"temperature": 0.0, "max_tokens": 9}, "judges": judges},
        ablate={"seeds": 2, "rows": 10, "arms": ["random", "filtered"]},
    )
    assert lecture.ablate().name != made.name and not asked, "verdicts are remembered"


def test_what_has_not_been_generated(workshop: Workshop) -> None:
    """Nothing is generated in passing: that costs, and is another command's work."""
    write_plan(workshop.folder, train=TRAIN)
    tiny.folder(workshop.folder / "model")
    with pytest.raises(UsageError, match=r"ablate reads generate, which has not been run\nhint: pipeline generate"):
        ablate(Study(workshop.path, (), workshop.plan(), workshop.run))


def test_the_forecast(lecture: Lecture, monkeypatch: pytest.MonkeyPatch, trained: list[int]) -> None:
    """Arms, what differs, and how many students are still to be trained; nothing is trained or written."""
    strict = {"strict": {"set": {"filter.rules.1.min_score": 2}}}
    lecture.plan(ablate={"seeds": 2, "rows": 10, "arms": ["random", "filtered"], "variants": strict})
    found = forecast(lecture.study())
    assert [(arm.name, arm.students, arm.to_train) for arm in found.arms] == [
        ("random", 2, None), ("filtered", 2, None), ("strict", 2, None),
    ]  # fmt: skip
    assert found.arms[2].changes == ["filter.rules.1.min_score: 3.0 -> 2.0"]
    assert found.notes == ["rows of strict have to be made first, which may ask models"]
    lecture.ablate()
    assert {arm.name: arm.to_train for arm in forecast(lecture.study()).arms} == dict.fromkeys(
        ("random", "filtered", "strict"), 0
    )
    lecture.plan(ablate={"seeds": 3, "rows": 10, "arms": ["random", "filtered"], "variants": strict})
    assert {arm.to_train for arm in forecast(lecture.study()).arms} == {1}
    assert len(trained) == 6


def test_the_command(lecture: Lecture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables on stdout, notes below; as JSON the manifest; --check before and after."""
    monkeypatch.setenv("PIPELINE_RUNS", str(lecture.run.path.parent))
    lecture.plan(ablate={"seeds": 1, "rows": 10, "arms": ["random", "filtered"]})

    def shell(*words: str) -> str:
        done = CliRunner().invoke(cli_ablate.ablation, [str(lecture.workshop.path), *words], env={"COLUMNS": "110"})
        assert done.exit_code == 0, done.output
        return done.stdout

    assert re.search(r"filtered +random +filtering", shell("--check"))
    text = shell()
    assert "What each choice brought" in text and re.search(r"filtering +random +filtered", text)
    assert "one seed" in text
    assert orjson.loads(shell("--json"))["stage"] == "ablate"
    assert {arm["to_train"] for arm in orjson.loads(shell("--check", "--json"))["arms"]} == {0}
