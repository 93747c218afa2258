"""check --estimate: a pilot whose answers are remembered, and what it predicts."""

import pytest
import yaml

from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.errors import UsageError
from stages import flow
from stages.estimate import Figure, _share, estimate
from tests.stages.conftest import Workshop
from tests.stages.scripted import Shuffled

asked: list[str] = []


def wordy(request: Request) -> Completion:
    """Ten to nineteen tokens; every fifth answer is empty."""
    prompt = request.messages[-1].content
    asked.append(prompt)
    n = int(prompt.split("number ")[1].rstrip("."))
    text = "" if n % 5 == 0 else f"The number {n} is a friend of mine, said {request.seed}."
    return Completion(text=text, finish_reason="stop", prompt_tokens=7, completion_tokens=10 + n % 10)


@pytest.fixture
def planned(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A plan of 400 seeds, a price and a rule."""
    monkeypatch.setattr(Replay, "open", lambda self, log=None: Shuffled(wordy, 8, 1))
    plan = yaml.safe_load(workshop.path.read_text())
    plan["teacher"]["price"] = {"prompt": 1.0, "completion": 2.0}
    prompts = [f"Tell me about number {n}." for n in range(400)]
    plan["generate"] |= {"source": {"kind": "grid", "axes": {"prompt": prompts}}, "retries": 0}
    plan["filter"] = {"rules": [{"kind": "length", "min_chars": 46}]}
    workshop.path.write_text(yaml.safe_dump(plan))
    asked.clear()
    return workshop


def test_what_is_predicted_comes_true(planned: Workshop) -> None:
    """The run's own totals lie in the pilot's intervals, and it asks for the rest alone."""
    found = {f.name: f for f in estimate(planned.plan(), planned.run, 60).figures}
    assert len(asked) == 60
    generate, filtered = planned.make("generate", "filter")
    usage = generate.manifest.usage
    assert usage["asked"] == 340 and usage["remembered"] == 60
    real = {
        "requests": 400,
        "prompt tokens": 2800,
        "completion tokens": 400 * 14.5,
        "cost": (2800 + 2 * 5800) / 1e6,
        "generate keeps": 320 / 400,
        "filter passes": 1 - filtered.rows("dropped") / 320,
    }
    for name, value in real.items():
        assert found[name].low * 0.999 <= value <= found[name].high * 1.001, (name, value, found[name])
    assert found["prompt tokens"].expected == pytest.approx(2800)


def test_accepted_rows_set_the_size(planned: Workshop) -> None:
    """For `count.accepted` the number of scripts follows from the pilot's rate of acceptance, up to the budget."""
    plan = planned.plan("generate.count={accepted: 100, rules: []}", "generate.heldout=0")
    found = {f.name: f for f in estimate(plan, planned.run, 80).figures}
    assert 110 <= found["requests"].expected <= 145
    capped = planned.plan("generate.count={accepted: 100, rules: [], budget: {requests: 50}}", "generate.heldout=0")
    assert {f.name: f for f in estimate(capped, planned.run, 80).figures}["requests"].expected == pytest.approx(50)


def test_a_remembered_pilot_says_nothing_of_time(planned: Workshop) -> None:
    """Answers from the memo tell tokens, not seconds."""
    estimate(planned.plan(), planned.run, 10)
    again = estimate(planned.plan(), planned.run, 10)
    assert len(asked) == 10
    assert "minutes" not in {f.name for f in again.figures}
    assert any("nothing is known of the time" in note for note in again.notes)


def test_no_version_is_made(planned: Workshop) -> None:
    """An estimate leaves the run without a version."""
    estimate(planned.plan(), planned.run, 5)
    assert planned.run.folders("generate") == []


def test_a_plan_without_generate_has_nothing_to_estimate(planned: Workshop) -> None:
    """The message says what is missing."""
    plan = yaml.safe_load(planned.path.read_text())
    del plan["generate"]
    planned.path.write_text(yaml.safe_dump(plan))
    with pytest.raises(UsageError, match="no section `generate` to estimate"):
        estimate(planned.plan(), planned.run, 5)


def test_a_share_has_its_wilson_interval() -> None:
    """Ten of ten is not certainty (Wilson 1927: 0.722 to 1 for n = 10)."""
    share = _share("x", 10, 10)
    assert share == Figure("x", 1.0, 1.0, share.low, 1.0)
    assert share.low == pytest.approx(0.722, abs=1e-3)


def test_an_estimate_does_not_stand_in_the_way(planned: Workshop) -> None:
    """The run can be written afterwards."""
    estimate(planned.plan(), planned.run, 5)
    assert flow.status(planned.plan(), planned.run)[0].state == "missing"
    assert planned.make("generate")[0].rows("kept")
