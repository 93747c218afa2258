"""Students in a row, each taught by the last: what is kept, what is refused, what an interrupted one takes up."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.store import Version
from stages import flow, training
from stages.schedules.born_again import BornAgain, _mean
from stages.schedules.cascade import Cascade
from stages.train import Train
from tests.helpers import write_plan
from tests.stages import tiny
from tests.stages.conftest import Workshop

OBJECTIVE: dict[str, Any] = {
    "kind": "soft_label", "num_train_epochs": 1, "learning_rate": 1e-2, "per_device_train_batch_size": 4,
    "max_length": 64,
}  # fmt: skip
ROW = {"prompt": "tell me about the fox ?", "completion": "the fox found a boat and ran home ."}


class School(Workshop):
    """A workshop whose plan trains a student of a tiny teacher."""

    def plan_for(self, layers: int = 4, **train: Any) -> None:
        """Write it."""
        write_plan(self.folder, train={"student": {"init": {"layers": [0, 3]}}, "objective": OBJECTIVE} | train)
        (self.folder / "model/config.json").unlink()
        tiny.folder(self.folder / "model", layers)
        (self.folder / "rows.jsonl").write_text("\n".join(json.dumps(ROW) for _ in range(8)))

    def train(self) -> Version:
        """Train it on the rows."""
        (version,) = self.make("train", input=str(self.folder / "rows.jsonl"))
        return version


@pytest.fixture
def school(tmp_path: Path) -> School:
    """An empty one."""
    return School(tmp_path)


def test_the_mean_of_probabilities() -> None:
    """Of one half and one quarter it is three eighths."""
    import math

    assert math.exp(_mean([math.log(0.5), math.log(0.25)])) == pytest.approx(0.375)


def test_objectives_without_a_teacher_have_no_schedule() -> None:
    """Every student would be the same."""
    with pytest.raises(ValueError, match="sft learns from rows alone; take soft_label"):
        Train.model_validate(
            {"student": {"model": "x"}, "objective": {"kind": "sft"}, "schedule": {"kind": "born_again"}}
        )


@pytest.mark.slow
def test_generations(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each starts from the same student, taught by the one before; without held-out answers the last is kept."""
    lessons: list[training.Lesson] = []
    teach = training.teach

    def noted(lesson: training.Lesson, *more: Any) -> training.Taught:
        lessons.append(lesson)
        return teach(lesson, *more)

    monkeypatch.setattr(training, "teach", noted)
    school.plan_for(schedule={"kind": "born_again", "generations": 3})
    version = school.train()
    teachers = [Path(lesson.teacher.model).parent.name for lesson in lessons if lesson.teacher]
    assert teachers == [school.folder.name, "generation-1", "generation-2"]
    assert [lesson.student for lesson in lessons] == [lessons[0].student] * 3
    assert version.manifest.figures["schedule"] == {"kept": "generation-3"}
    assert sorted(p.name for p in (version.path / "steps").iterdir()) == ["generation-1", "generation-2"]
    assert (version.path / "model/model.safetensors").is_file() and (version.path / "metrics.jsonl").stat().st_size
    assert not (version.path / "work").exists()


@pytest.mark.slow
def test_the_best_generation_is_kept(school: School) -> None:
    """By the perplexity of held-out answers; that of the ensemble, no worse than the worst, stands beside them."""
    school.plan_for(schedule={"kind": "born_again", "generations": 2}, min_rows=1)
    talk = [{"role": "user", "content": ROW["prompt"]}, {"role": "assistant", "content": ROW["completion"]}]
    stage = school.plan().stage("train")
    assert isinstance(stage, Train) and isinstance(stage.schedule, BornAgain)
    made = []
    for n in range(2):
        folder = school.folder / f"g{n}"
        tiny.model(2, seed=n).save_pretrained(folder / "model")
        tiny.tokenizer().save_pretrained(folder / "model")
        made.append(training.Trained(f"generation-{n + 1}", folder, {}))
    from stages.schedules.base import School as Given

    def teach(lesson: training.Lesson, name: str) -> training.Trained:
        return made[int(name[-1]) - 1]

    lesson = training.Lesson(stage.objective, {}, None, None, Path(), None, 0, 0, Path())
    result = stage.schedule.run(lesson, Given(teach, [], [talk, talk]))
    each = result.figures["heldout_perplexity"]
    assert result.best.name == min(("generation-1", "generation-2"), key=lambda name: each[name])
    assert min(each.values()) <= each["ensemble"] <= max(each["generation-1"], each["generation-2"])


@pytest.mark.slow
def test_a_cascade(school: School) -> None:
    """From four layers by way of three to two; the middle student stays beside the last."""
    school.plan_for(schedule={"kind": "cascade", "through": [{"init": {"layers": [0, 1, 3]}}]})
    version = school.train()
    schedule = version.manifest.figures["schedule"]
    assert schedule["kept"] == "step-2" and list(schedule["ratios"]) == ["step-1", "step-2"]
    assert all(ratio > 1 for ratio in schedule["ratios"].values())
    config = json.loads((version.path / "steps/step-1/model/config.json").read_text())
    assert config["num_hidden_layers"] == 3
    assert version.manifest.figures["ratio"] > max(schedule["ratios"].values())


@pytest.mark.slow
def test_steps_that_are_too_large_or_go_up_are_refused(school: School) -> None:
    """Before anything is trained, with the numbers."""
    school.plan_for(schedule={"kind": "cascade", "through": [{"init": {"layers": [0]}}]})
    with pytest.raises(UsageError, match=r"the student .*a cascade goes down"):
        school.train()
    school.plan_for(schedule={"kind": "cascade", "through": [{"init": {"layers": [0, 1, 3]}}], "max_ratio": 1.1})
    with pytest.raises(UsageError, match=r"times fewer, and max_ratio is 1\.1\nhint: put a student between"):
        school.train()
    assert not school.run.versions("train")
    assert Cascade.model_validate({"through": [{"model": "x"}]}).max_ratio == 10


@pytest.mark.slow
def test_an_interrupted_schedule_goes_on(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    """Students that are whole are not trained again, and the result is the same as without the interruption."""
    school.plan_for(schedule={"kind": "born_again", "generations": 2})
    whole = school.train()
    weights = (whole.path / "model/model.safetensors").read_bytes()
    shutil.rmtree(school.run.path)
    teach, calls = training.teach, []

    def failing(lesson: training.Lesson, found: Any, folder: Path, name: str) -> training.Taught:
        calls.append(name)
        if calls == ["generation-1", "generation-2"]:
            raise KeyboardInterrupt
        return teach(lesson, found, folder, name)

    monkeypatch.setattr(training, "teach", failing)
    with pytest.raises(KeyboardInterrupt):
        school.train()
    again = school.train()
    assert calls == ["generation-1", "generation-2", "generation-2"]
    assert (again.path / "model/model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_the_check_looks_at_the_schedule(school: School) -> None:
    """`train --check` refuses what training would."""
    from stages import train_check

    school.plan_for(schedule={"kind": "cascade", "through": [{"init": {"layers": [0]}}]})
    options = flow.Options(input=str(school.folder / "rows.jsonl"))
    with pytest.raises(UsageError, match="a cascade goes down"):
        train_check.check(school.plan(), school.run, options)
