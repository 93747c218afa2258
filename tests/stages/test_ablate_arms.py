"""Arms: which there are, what is compared, which rows they take; and sections that say nothing."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError, UsageError
from pipeline.records import Check
from pipeline.run import Run
from pipeline.store import Version
from stages.ablation.arms import Arm, Contrast, Rows, take
from stages.ablation.section import Data
from stages.ablation.students import within
from stages.ablation.study import Study
from stages.objectives.sft import Sft
from stages.plan import Plan, load
from stages.preflight import Preflight
from tests.helpers import record, write_plan
from tests.stages.sealed import seal

TRAIN: dict[str, Any] = {"student": {"init": {"layers": [0]}}, "objective": {"kind": "sft"}}
FILTER: dict[str, Any] = {"rules": [{"kind": "length"}, {"kind": "exact"}]}


def study(folder: Path, **sections: Any) -> Study:
    """An ablation that nothing has been made for."""
    path = write_plan(folder, **{"filter": FILTER, "train": TRAIN} | sections)
    return Study(path, (), load(path), Run(folder / "runs/tiny"))


@pytest.mark.parametrize(
    ("sections", "own", "arms"),
    [
        ({"curate": {"keep": 5}}, "curated", ["unfiltered", "random", "filtered", "curated"]),
        ({}, "filtered", ["unfiltered", "random", "filtered"]),
        ({"filter": None}, "random", ["unfiltered", "random"]),
        ({"curate": {"keep": 5}, "ablate": {"arms": ["random"]}}, "curated", ["random", "curated"]),
        ({"generate": None}, "filtered", ["filtered"]),
    ],
)
def test_the_arms_of_a_plan(tmp_path: Path, sections: dict[str, Any], own: str, arms: list[str]) -> None:
    """Those whose stage it has; the plan's own always."""
    found = study(tmp_path, **sections).arms
    assert (found.own, list(found.all)) == (own, arms)
    assert not found.all[own].draws, "the plan trains on all of it"


def test_what_is_compared(tmp_path: Path) -> None:
    """Standard arms with each other, a variant with the plan's own, a pass rate with a draw of everything."""
    variants = {
        "long": {"set": {"filter.rules.0.min_chars": 300}},
        "rate": {"pass_rate": 0.3},
        "noisy": {"data": "random", "set": {"train.max_cut": 0.5}, "against": "random"},
    }
    found = study(
        tmp_path, curate={"keep": 5}, ablate={"variants": variants, "cross_architecture": {"big": {"model": "org/big"}}}
    ).arms
    assert found.contrasts == [
        Contrast("filtered", "random", "filtering"),
        Contrast("curated", "filtered", "curation"),
        Contrast("curated", "random", "filtering and curation"),
        Contrast("random", "unfiltered", "fewer rows"),
        Contrast("long", "curated", "long"),
        Contrast("rate", "random", "rate"),
        Contrast("noisy", "random", "noisy"),
        Contrast("big", "curated", "the student big"),
    ]
    assert found.all["long"].plan.settings("filter")["filter"]["rules"][0]["min_chars"] == 300
    assert found.all["big"].train.student.model == "org/big" and found.all["big"].other_student
    assert [found.all[name].draws for name in ("long", "rate", "noisy", "big")] == [False, True, True, False]
    assert found.all["rate"].words == "drawn of the best 30% by judge"


def test_the_number_of_rows_is_everybody_s(tmp_path: Path) -> None:
    """What curate keeps follows the section, in variants too; the plan's own rows are drawn where nothing curates."""
    choose = {"set": {"curate.select": {"kind": "random"}}}
    made = study(tmp_path, curate={"keep": 5}, ablate={"rows": 3, "variants": {"chance": choose}})
    for name in ("curated", "chance"):
        assert made.arms.all[name].plan.settings("curate")["curate"]["keep"] == 3
    assert study(tmp_path, ablate={"rows": 3}).arms.all["filtered"].draws


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"variants": {"x": {"set": {"filter.rules.9.min": 1}}}}, r"ablate\.variants\.x: .*9 is not one of 0 to 1"),
        (
            {"variants": {"x": {"set": {"train.objective.learning_rat": 1}}}},
            r"variants\.x: .*did you mean learning_rate",
        ),
        ({"variants": {"x": {"set": {"train.max_cut": 0.5}, "against": "curated"}}}, "is no arm of this plan"),
        ({"variants": {"x": {"data": "curated"}}}, "curated rows come from curate, which the plan has not"),
    ],
)
def test_arms_that_cannot_be(tmp_path: Path, section: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        study(tmp_path, ablate=section)


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"variants": {"x": {}}}, "nothing differs from the plan"),
        ({"variants": {"x": {"set": {"name": "other"}}}}, "may not change the plan's name"),
        ({"variants": {"x": {"pass_rate": 0.5, "data": "random"}}}, "a pass rate says which rows"),
        ({"variants": {"random": {"pass_rate": 0.5}}}, "two arms are called random"),
        ({"variants": {"x": {"pass_rate": 0.5, "against": "y"}}}, "there is no arm y; there are unfiltered"),
        ({"arms": ["best"]}, "best"),
    ],
)
def test_sections_that_say_nothing(tmp_path: Path, section: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        study(tmp_path, ablate=section)


def test_a_plan_that_trains_nobody(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no section `train`"):
        study(tmp_path, train=None)


def arm(data: Data, *, draws: bool, rate: float | None = None) -> Arm:
    """Of no plan: only rows are asked for."""
    return Arm("x", Plan(name="x"), data, draws, rate, "judge")


def graded(run: Run, scores: list[float | None]) -> Version:
    """A filter version with a row a score; the lower half is dropped."""
    rows = []
    for n, score in enumerate(scores):
        row = record(f"Answer {n}.", id=f"r{n:03}")
        if score is not None:
            row = row.checked(Check(name="judge", value=score, passed=score > 2, reason="" if score > 2 else "low"))
        rows.append(row)
    heldout = record("Held out.", id="h", split="heldout").checked(Check(name="judge", value=9.0))
    return seal(run, "filter", [*rows, heldout])


def ids(given: Any) -> list[str]:
    return [row.id for row in given.rows.read("kept")]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 5))
def test_draws(tmp_path_factory: pytest.TempPathFactory, rows: int, seed: int) -> None:
    """As many as there are, in the version's order, of the seed alone; fewer are part of more."""
    version = graded(Run(tmp_path_factory.mktemp("run")), [3.0] * 9)
    drawn = ids(take(arm("filtered", draws=True), version, rows, seed))
    assert len(drawn) == min(rows, 9) and drawn == sorted(drawn) == ids(
        take(arm("filtered", draws=True), version, rows, seed)
    )
    assert set(drawn) <= set(ids(take(arm("filtered", draws=True), version, rows + 1, seed)))
    assert ids(take(arm("filtered", draws=False), version, rows, seed)) == [f"r{n:03}" for n in range(9)]


def test_seeds_draw_differently(tmp_path: Path) -> None:
    version = graded(Run(tmp_path), [3.0] * 40)
    draws = [frozenset(ids(take(arm("filtered", draws=True), version, 10, seed))) for seed in range(4)]
    assert all(one != other for one, other in itertools.combinations(draws, 2))


def test_the_best_by_a_score(tmp_path: Path) -> None:
    """Rows that the filters dropped, too, as if they had not been; never held-out ones; rows without a score last."""
    version = graded(Run(tmp_path), [1.0, 5.0, None, 1.5, 4.0, 3.0, 2.0, 2.5])
    best = arm("filtered", draws=True, rate=0.75)
    given = take(best, version, 99, 0)
    assert sorted(ids(given)) == ["r001", "r003", "r004", "r005", "r006", "r007"]
    assert given.rows.count("kept") == 6
    assert not any(row.dropped for row in given.rows.read("kept"))
    assert len(ids(take(best, version, 2, 0))) == 2
    assert ids(take(arm("filtered", draws=True, rate=0.1), version, 9, 0)) == ["r001"]
    with pytest.raises(
        PipelineError, match="judge has measured 7 of 8 rows for training, too few for a pass rate of 100%"
    ):
        take(arm("filtered", draws=True, rate=1.0), version, 9, 0)


def test_rows_as_they_would_be_written(tmp_path: Path) -> None:
    version = graded(Run(tmp_path), [3.0, 4.0])
    whole, one = Rows(version), Rows(version, frozenset(["r001"]))
    assert (whole.count("kept"), one.count("kept"), one.count("heldout")) == (2, 1, 1)
    assert [raw.line for raw in one.raw()] == [row.line() for row in one.read("kept")]


@given(st.integers(1, 400), st.integers(1, 32), st.integers(1, 50), st.integers(1, 10**6))
def test_a_budget_in_steps(rows: int, batch: int, length: int, budget: int) -> None:
    """To the nearest step, never none; the trainer's own count of steps is the same."""
    pass_steps = -(-rows // batch)
    found = Preflight(rows, rows * length, 1, length, "", 0, 0, 0, 3 * pass_steps, 3.0, [], [], None)
    objective, after = within(Sft(per_device_train_batch_size=batch), found, budget)
    per_step = rows * length / pass_steps
    assert after.steps == objective.config["max_steps"] >= 1
    assert abs(after.work - budget) <= max(per_step, per_step - budget) / (2 if budget > per_step / 2 else 1) + 1e-6
    assert objective.num_train_epochs == after.passes
