"""Judges in a filter stage: a jury counts with all its models, and a teacher that judges itself is told."""

import pytest

from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from stages.filter import FilterStage
from tests.helpers import empty_recording, opens_scripted, stub_model, write_plan
from tests.stages.conftest import Workshop, teacher


def judge(workshop: Workshop, *models: str) -> dict[str, object]:
    """A judge rule asked of these models, or of the teacher."""
    engines = []
    for name in models:
        recording = empty_recording(workshop.folder / f"{name}.jsonl")
        model = stub_model(workshop.folder / name)
        engines.append({"kind": "replay", "model": str(model), "recording": str(recording)})
    return {"kind": "judge", "prompt": workshop.rubric("first")} | ({"engines": engines} if engines else {})


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine answers: the teacher writes, whoever is asked for a score gives 4."""

    def script(request: Request) -> Completion:
        return Completion(text="4", finish_reason="stop") if request.choices else teacher(request)

    monkeypatch.setattr(Replay, "open", opens_scripted(script))


def test_every_juror_counts(workshop: Workshop, scripted: None) -> None:
    """All models of a jury are the stage's: in what it asks, in its fingerprint, in what it uses; none is noted."""
    write_plan(workshop.folder, filter={"rules": [judge(workshop, "one", "two", "three")]})
    stage = workshop.plan().stage("filter")
    assert isinstance(stage, FilterStage)
    assert [engine.model.rsplit("/", 1)[1] for engine in stage.asks(None)] == ["one", "two", "three"]
    assert stage.free() == []
    _, made = workshop.make("generate", "filter")
    rows = [*made.read("kept"), *made.read("heldout")]
    assert rows and all(row.checks[-1].detail == "votes 4 4 4, spread 0.00" for row in rows)
    assert made.manifest.notes == []


def test_a_teacher_that_judges_itself_is_noted(workshop: Workshop, scripted: None) -> None:
    """The manifest says so, once."""
    write_plan(workshop.folder, filter={"rules": [judge(workshop)]})
    _, made = workshop.make("generate", "filter")
    (note,) = made.manifest.notes
    assert "judges its own answers" in note
