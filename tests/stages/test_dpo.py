"""Preference objectives: where pairs come from, and what training on them does."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from pipeline.component import members
from pipeline.engines import Completion, Request
from pipeline.errors import UsageError
from pipeline.job import Job
from pipeline.records import Check, Record
from pipeline.run import Run
from pipeline.store import Manifest, Version, VersionWriter
from stages.intake import FileRows, VersionRows
from stages.objectives import AnyObjective
from stages.objectives.base import Given, Left
from stages.objectives.dpkd import Dpkd
from stages.objectives.dpo import Dpo
from stages.objectives.pupil import Pupil
from stages.objectives.sft import Sft
from stages.pairs import Pairs, PairWriter
from tests.helpers import Script, ScriptedSession, record, stub_model

ASK, GOOD, BAD = "tell me about the fox ?", "the fox found a boat .", "moon moon"
ROW = {
    "prompt": [{"role": "user", "content": ASK}],
    "chosen": [{"role": "assistant", "content": GOOD}],
    "rejected": [{"role": "assistant", "content": BAD}],
}


def made(rows: Iterator[Any]) -> tuple[list[dict[str, Any]], list[Left]]:
    """Rows, and what was left out."""
    found = list(rows)
    return [row for row in found if isinstance(row, dict)], [row for row in found if isinstance(row, Left)]


def lines(file: Path, *rows: Any) -> FileRows:
    """A JSONL file of rows."""
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return FileRows(file)


def given(rows: Any, *, job: Job | None = None, version: Version | None = None, folder: Path = Path()) -> Given:
    """What rows are made from; the student is a folder that is no model."""
    return Given(rows, lambda stage: version if stage == "filter" else None, {"model": str(folder / "stub")}, job)


def filtered(folder: Path, *records: Record, pairs: bool = True) -> Version:
    """A filter version of these rows, with their pairs."""
    settings = {"filter": {"pairs": {"by": "judge"} if pairs else None}}
    empty = Manifest(stage="filter", version=folder.name, fingerprint="0" * 64, settings=settings, inputs=[])
    writer, best = VersionWriter(folder, empty), PairWriter(Pairs())
    writer.begin()
    for one in records:
        writer.write(one)
        best.see(one)
    if pairs:
        best.write(folder)
    return writer.seal()


def scored(id: str, answer: str, score: float, **more: Any) -> Record:
    """A row that a judge has seen; a low one is dropped by it."""
    check = Check(name="judge", value=score, passed=score > 2, reason="" if score > 2 else "low_score")
    return record(answer, id=id, **({"prompt": ASK} | more)).checked(check)


def test_the_judges_pairs_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    """A row is its record's, whose answer is the chosen one; records that won no pair are counted."""
    other = {"prompt": "a bear ?"}
    judged = [scored("a", BAD, 1), scored("b", GOOD, 5), scored("c", "so", 3),
              scored("d", "home", 4, **other), scored("e", "away", 1, **other)]  # fmt: skip
    version = filtered(tmp_path / "0001-00000000", *judged)
    rows = VersionRows(filtered(tmp_path / "curated", judged[3], judged[2], judged[1], pairs=False))
    found, left = made(Dpo().rows(given(rows, version=version)))
    assert found[1] == ROW | {"id": "b"}
    assert [(r["id"], r["rejected"][0]["content"]) for r in found] == [("d", "away"), ("b", BAD)]
    assert left == [Left("c", "no_pair")]


@pytest.mark.parametrize(("pairs", "why"), [(True, "no prompt has two answers far enough"), (False, r"filter\.pairs:")])
def test_a_filter_without_pairs_is_refused(tmp_path: Path, pairs: bool, why: str) -> None:
    """The message tells a filter that was not asked for pairs from one that found none."""
    version = filtered(tmp_path / "0001-00000000", scored("a", GOOD, 5), pairs=pairs)
    with pytest.raises(UsageError, match=why) as caught:
        made(Dpo().rows(given(VersionRows(version), version=version)))
    assert "filter 0001-00000000 holds no preference pairs" in str(caught.value)


def test_rows_of_no_filter_are_refused(tmp_path: Path) -> None:
    """Records that nobody compared hold no pairs: the message has the ways out."""
    rows = lines(tmp_path / "talk.jsonl", {"prompt": ASK, "completion": GOOD})
    with pytest.raises(UsageError, match="these rows come from no filter version") as caught:
        made(Dpo().rows(given(rows)))
    assert "train.objective.pairs: student" in str(caught.value)


WHOLE = {column: [*ROW["prompt"], *ROW[column]] for column in ("chosen", "rejected")}


@pytest.mark.parametrize("pairs", ["judge", "student"])
@pytest.mark.parametrize(
    "line", [ROW, {"prompt": ASK, "chosen": GOOD, "rejected": BAD}, WHOLE, {"prompt": ASK} | WHOLE, ROW | WHOLE]
)
def test_a_file_of_pairs_is_taken_as_it_is(tmp_path: Path, line: dict[str, Any], pairs: Any) -> None:
    """Text, turns, and whole conversations, with their prompt or without; nobody is asked."""
    ((row, second), left) = made(Dpo(pairs=pairs).rows(given(lines(tmp_path / "pairs.jsonl", line, line))))
    assert row | {"id": ""} == second | {"id": ""} == ROW | {"id": ""}
    assert not left and row["id"] != second["id"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"prompt": ASK, "chosen": GOOD}, "has no `rejected`"),
        ({"prompt": ASK, "completion": GOOD}, "has no `chosen`"),
        ({"chosen": GOOD, "rejected": BAD}, "has no `prompt`"),
        (ROW | {"rejected": 7}, "not a conversation"),
        (ROW | {"chosen": []}, "has no `chosen`"),
        (ROW | {"chosen": ROW["prompt"]}, "`chosen` does not end with an answer"),
        (ROW | {"chosen": [{"role": "assistant", "content": None}]}, "not a conversation"),
        (WHOLE | {"rejected": [{"role": "user", "content": "?"}, *ROW["rejected"]]}, "answer different prompts"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: dict[str, Any], why: str) -> None:
    """File, line, and what is wrong with it."""
    rows = lines(tmp_path / "pairs.jsonl", ROW, line)
    with pytest.raises(UsageError, match=rf"pairs\.jsonl:2: .*{why}"):
        made(Dpo().rows(given(rows)))


def test_pairs_that_teach_nothing_are_counted(tmp_path: Path) -> None:
    """Equal answers, silent ones, and those that are held out."""
    rows: list[dict[str, Any]] = [
        {"id": "same", "prompt": ASK, "chosen": GOOD, "rejected": f" {GOOD}\n"},
        ROW | {"id": "held", "split": "heldout"},
        {"id": "silent", "prompt": ASK, "chosen": "", "rejected": BAD},
    ]
    found, left = made(Dpo().rows(given(lines(tmp_path / "pairs.jsonl", *rows))))
    assert not found
    assert left == [Left("same", "same_answer"), Left("held", "heldout"), Left("silent", "empty_answer")]


def test_records_with_pairs_are_refused_by_objectives_over_records(tmp_path: Path) -> None:
    """One clear message, with the line."""
    with pytest.raises(UsageError, match=r"pairs\.jsonl:1"):
        made(Sft().rows(given(lines(tmp_path / "pairs.jsonl", {"prompt": ASK, "chosen": GOOD, "rejected": BAD}))))


@pytest.fixture
def asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], Job]:
    """A job over whose memo the student answers by a script."""

    def job(script: Script) -> Job:
        stub_model(tmp_path / "stub")
        monkeypatch.setattr(Pupil, "open", lambda self, log=None: ScriptedSession(tmp_path / "said.jsonl", script))
        run = Run(tmp_path / "run")
        run.create()
        return Job(run, 3, None)

    return job


def test_the_students_own_answers_are_rejected(tmp_path: Path, asks: Callable[[Script], Job]) -> None:
    """What it says to the same turns, asked once; what teaches nothing is counted."""
    said = {"moon": BAD, "same": f"{GOOD} ", "empty": "\n", "broken": "", "long": "boat"}
    asked: list[Request] = []

    def script(request: Request) -> Completion:
        asked.append(request)
        ends = "length" if request.id == "long" else "stop"
        return Completion(text=said[request.id], finish_reason=ends, error="no" if request.id == "broken" else "")

    rows = lines(tmp_path / "talk.jsonl", *({"id": id_, "prompt": ASK, "completion": GOOD} for id_ in said))
    goal = Dpkd.model_validate({"sampling": {"max_tokens": 7, "temperature": 0.5}})
    found, left = made(goal.rows(given(rows, job=asks(script), folder=tmp_path)))
    assert found[0] == ROW | {"id": "moon", "student_cut": False}
    assert (found[1]["id"], found[1]["student_cut"]) == ("long", True)
    assert left == [Left("same", "same_answer"), Left("empty", "student_empty"), Left("broken", "student_failed")]
    assert {(r.sampling.max_tokens, r.sampling.temperature, len(r.messages)) for r in asked} == {(7, 0.5, 1)}
    assert len({r.seed for r in asked}) == 5
    again = made(goal.rows(given(rows, job=asks(script), folder=tmp_path)))
    assert again == (found, left)
    assert [r.id for r in asked[5:]] == ["broken"]


def test_nobody_is_asked_about_rows_of_the_wrong_shape(tmp_path: Path, asks: Callable[[Script], Job]) -> None:
    """A record without an answer is refused before the student is made."""
    rows = lines(tmp_path / "talk.jsonl", *({"messages": [*ROW["prompt"], *end]} for end in (ROW["chosen"], [])))
    job = asks(lambda request: pytest.fail("asked"))
    with pytest.raises(UsageError, match="does not end with an answer: dpkd needs"):
        made(Dpkd().rows(given(rows, job=job, folder=tmp_path)))


def test_where_nothing_may_be_loaded_the_answer_stands_for_both(tmp_path: Path) -> None:
    """As for a check, which needs no student."""
    rows = lines(tmp_path / "talk.jsonl", {"id": "a", "prompt": ASK, "completion": GOOD})
    ((row,), _) = made(Dpkd().rows(given(rows)))
    assert row == ROW | {"id": "a", "rejected": ROW["chosen"]}


def test_a_student_is_known_by_what_makes_it(tmp_path: Path) -> None:
    """Its layers, its template; the seed where its weights are random, and only there."""
    model = str(stub_model(tmp_path / "stub"))

    def words(seed: int = 1, **more: Any) -> str:
        return orjson.dumps(Pupil(model=model, seed=seed, **more).words()).decode()

    kinds: list[dict[str, Any]] = [
        {},
        {"init": {"layers": [0]}},
        {"init": {"config": {"num_hidden_layers": 1}}},
        {"chat_template": "x"},
    ]
    assert len({words(**kind) for kind in kinds}) == len(kinds)
    assert [words(**kind) == words(2, **kind) for kind in kinds] == [True, True, False, True]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1]}, "1 weights for 2 losses"),
        ({"loss_type": "sigmoids"}, "sigmoid"),
        ({"sampling": {"max_tokens": 8}}, "`pairs: student` only"),
        ({"lora": {"r": 4}, "config": {"sync_ref_model": True}}, "sync_ref_model"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], why: str) -> None:
    """When the plan is read."""
    with pytest.raises(ValidationError, match=why):
        Dpo.model_validate(settings)


def test_plans_know_both() -> None:
    """By their kinds; the reference is the student itself, or its teacher."""
    assert {Dpo, Dpkd} <= set(members(AnyObjective))
    assert [(goal.kind, goal.learns_from) for goal in (Dpo(), Dpkd())] == [("dpo", "rows"), ("dpkd", "teacher")]
