"""Exactly N accepted, within a budget, the same rows however many requests are under way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.store import Version
from stages import flow
from tests.stages.conftest import Workshop
from tests.stages.scripted import Shuffled

PROMPTS = [f"Tell me about number {n}." for n in range(40)]


def short_or_long(request: Request) -> Completion:
    """Every third answer is too short; samples differ."""
    n = int(request.messages[-1].content.split("number ")[1].split(".")[0])
    text = "no" if n % 3 == 0 else f"The number {n} is a friend of mine, said {request.seed}."
    return Completion(text=text, finish_reason="stop", prompt_tokens=5, completion_tokens=10)


@pytest.fixture
def refilling(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Version]:
    """Makes a generate version with `count` and a length rule, over a session of some width."""
    plan: dict[str, Any] = yaml.safe_load(workshop.path.read_text())
    plan["generate"] |= {"source": {"kind": "grid", "axes": {"prompt": PROMPTS}}, "heldout": 0.2}
    plan["filter"] = {"rules": [{"kind": "length", "min_chars": 10}, {"kind": "exact"}]}
    workshop.path.write_text(yaml.safe_dump(plan))

    def make(count: dict[str, Any], width: int = 4, **options: Any) -> Version:
        overrides = (f"generate.count={count}",)
        with monkeypatch.context() as patch:
            patch.setattr(Replay, "open", lambda self, log=None: Shuffled(short_or_long, width, width))
            return flow.run_stages(
                workshop.plan(*overrides), workshop.run, ["generate"], flow.Options(**({"again": True} | options))
            )[0]

    return make


def bytes_of(version: Version) -> dict[str, bytes]:
    """The shards of a version."""
    return {file.name: file.read_bytes() for file in sorted(version.path.glob("*.jsonl"))}


def test_exactly_so_many_are_accepted(refilling: Callable[..., Version]) -> None:
    """The plan's own cheap rules accept; what they drop says so; the cut does not hang on the width."""
    version = refilling({"accepted": 7})
    assert version.rows("kept") == 7 and version.rows("dropped") > 0
    assert {r.by for r in version.read("dropped")} == {"length"}
    steps = version.manifest.ledger
    assert [s.step for s in steps] == ["generate", "length", "exact"]
    assert steps[0].came == 7 + version.rows("heldout") + version.rows("dropped") == steps[0].kept
    assert bytes_of(refilling({"accepted": 7}, width=64)) == bytes_of(version)
    assert bytes_of(refilling({"accepted": 7}, width=1)) == bytes_of(version)


def test_raising_the_number_asks_for_the_difference(refilling: Callable[..., Version]) -> None:
    """What was accepted stays; only the rest is asked."""
    few, many = refilling({"accepted": 5}, width=1), refilling({"accepted": 9}, width=1)
    kept = [r.id for r in many.read("kept")]
    assert kept[:5] == [r.id for r in few.read("kept")] and len(kept) == 9
    assert many.manifest.usage["remembered"] == few.manifest.usage["asked"]


def test_a_source_that_is_used_up_is_sampled_again(refilling: Callable[..., Version]) -> None:
    """More rows than seeds: training seeds come again with other samples, held-out ones do not."""
    version = refilling({"accepted": 60})
    rows = list(version.read("kept"))
    assert len(rows) == 60 and len({r.id for r in rows}) == 60
    assert {r.made_by.sample for r in rows} > {0, 1}
    assert {r.made_by.sample for r in version.read("heldout")} == {0}
    assert not {s for r in rows for s in r.seeds} & {s for r in version.read("heldout") for s in r.seeds}


@pytest.mark.parametrize(
    ("budget", "rows", "why"),
    [
        ({"requests": 12}, 12, "the budget of 12 requests is spent"),
        ({"tokens": 100}, 7, "the budget of 100 tokens is spent"),
        ({"cost": 0.05}, 5, "the budget of a cost of 0.05 is spent"),
    ],
)
def test_a_budget_ends_it(
    refilling: Callable[..., Version], workshop: Workshop, budget: dict[str, float], rows: int, why: str
) -> None:
    """What has been spent, remembered answers counted, ends the stage; a note says how far it came."""
    plan = yaml.safe_load(workshop.path.read_text())
    plan["teacher"]["price"] = {"prompt": 400, "completion": 800}
    workshop.path.write_text(yaml.safe_dump(plan))
    for width in (3, 20):
        version = refilling({"accepted": 1000, "budget": budget}, width=width)
        assert sum(version.manifest.counts.values()) == rows
        (note,) = version.manifest.notes
        assert note.endswith(why) and note.startswith(f"{version.rows('kept')} of 1,000 rows accepted")


def test_minutes_end_it_too(refilling: Callable[..., Version]) -> None:
    """A budget of time stops at the first answer after it."""
    version = refilling({"accepted": 1000, "budget": {"minutes": 0.00001}})
    assert sum(version.manifest.counts.values()) == 1
    assert "minutes is spent" in version.manifest.notes[0]


def test_seeds_that_are_all_held_out_end_it(refilling: Callable[..., Version], workshop: Workshop) -> None:
    """Where no seed may train, the source is gone through once."""
    plan = yaml.safe_load(workshop.path.read_text())
    plan["generate"] |= {"source": {"kind": "grid", "axes": {"prompt": PROMPTS[:3]}}, "heldout": 0.999}
    workshop.path.write_text(yaml.safe_dump(plan))
    version = refilling({"accepted": 3})
    assert version.rows("kept") == 0 and version.manifest.notes == ["0 of 3 rows accepted: the source gives no more"]


def test_without_a_budget_there_is_an_end(refilling: Callable[..., Version], workshop: Workshop) -> None:
    """Rules that accept nothing end after ten requests for every row wanted."""
    plan = yaml.safe_load(workshop.path.read_text())
    plan["filter"]["rules"][0]["min_chars"] = 10_000
    workshop.path.write_text(yaml.safe_dump(plan))
    version = refilling({"accepted": 3})
    assert version.rows("kept") == 0 and sum(version.manifest.counts.values()) == 30
    assert version.manifest.notes == ["0 of 3 rows accepted: the budget of 30 requests is spent"]


def test_the_rules_that_accept_make_the_version(workshop: Workshop, refilling: Callable[..., Version]) -> None:
    """A changed rule is another generate version, asked from memory."""
    first = refilling({"accepted": 6}, width=1, again=False)
    plan = yaml.safe_load(workshop.path.read_text())
    plan["filter"]["rules"][0]["min_chars"] = 12
    workshop.path.write_text(yaml.safe_dump(plan))
    second = refilling({"accepted": 6}, width=1, again=False)
    assert second.name != first.name
    assert second.manifest.usage.get("asked", 0) == 0
    assert Path(second.path).parent == Path(first.path).parent
