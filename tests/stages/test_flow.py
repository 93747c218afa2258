"""Which stages run, on what, and why: versions, their states, and rows that come from elsewhere."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.errors import BusyError, DataError, ModelError, PipelineError, UsageError
from pipeline.memo import Memo
from pipeline.store import Shard, Version
from stages import checks, flow
from tests.helpers import WORDS, record, write_plan
from tests.stages.conftest import Workshop

Recorded = Callable[..., None]
SHARDS: tuple[Shard, ...] = ("kept", "heldout", "dropped")
ROOT = Path(__file__).resolve().parents[2]
RULES: dict[str, Any] = {"rules": [{"kind": "length", "min_chars": 5}, {"kind": "exact"}]}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a run but its logs and lock files, with content."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(("writer", "memo")) and "logs" not in p.parts
    }


@pytest.fixture
def generated(workshop: Workshop, recorded: Recorded) -> Workshop:
    """A workshop whose generate and filter stages can be replayed; nothing has run yet."""
    write_plan(workshop.folder, filter=RULES)
    recorded("generate")
    return workshop


def test_states_from_missing_to_done(generated: Workshop) -> None:
    """A stage is missing, then done; what was not run yet stays missing."""
    assert generated.states() == {"generate": "missing", "filter": "missing"}
    generated.make("generate")
    assert generated.states() == {"generate": "done", "filter": "missing"}
    generated.make("filter")
    assert generated.states() == {"generate": "done", "filter": "done"}


def test_a_changed_setting_differs_and_what_follows_is_stale(generated: Workshop) -> None:
    """Status names the setting that changed, and the stages below follow."""
    generated.make("generate", "filter")
    steps = flow.status(generated.plan("generate.heldout=0.5"), generated.run)
    assert [(s.state, s.why) for s in steps] == [
        ("differs", "generate.heldout: 0.3 -> 0.5"), ("stale", "follows generate"),
    ]  # fmt: skip
    assert generated.states("filter.rules.0.min_chars=6") == {"generate": "done", "filter": "differs"}


def test_a_new_version_above_makes_what_is_below_stale(generated: Workshop) -> None:
    """Once generate has another version, filter says which one it read."""
    generated.make("generate", "filter")
    generated.make("generate", overrides=("generate.heldout=0.5",))
    (_, step) = flow.status(generated.plan("generate.heldout=0.5"), generated.run)
    assert step.state == "stale"
    assert step.why.startswith("read generate 0001-") and ", which is now 0002-" in step.why


def test_an_unfinished_version_is_told(generated: Workshop) -> None:
    """A folder without a manifest is work that was begun."""
    (version,) = generated.make("generate")
    (version.path / "manifest.json").unlink()
    (step, _) = flow.status(generated.plan(), generated.run)
    assert (step.state, step.version) == ("unfinished", None)
    assert version.name in step.why
    generated.make("generate")
    assert generated.states()["generate"] == "done"


def test_a_limited_version_differs(generated: Workshop) -> None:
    """What was made with --limit is not what the plan asks for."""
    (version,) = generated.make("generate", limit=2)
    assert version.manifest.ledger[0].came == 2
    (step, _) = flow.status(generated.plan(), generated.run)
    assert (step.state, step.why) == ("differs", "made with --limit")


def test_the_same_plan_again_is_up_to_date(generated: Workshop) -> None:
    """A second run makes nothing, asks nothing and changes no byte."""
    first = generated.make("generate", "filter")
    before = tree(generated.run.path)
    (generated.folder / "recording.jsonl").write_bytes(orjson.dumps({"words": WORDS}) + b"\n")
    again = generated.make("generate", "filter")
    assert [v.name for v in again] == [v.name for v in first]
    assert tree(generated.run.path) == before
    assert [row.would for row in checks.examine(generated.plan(), generated.run).rows] == ["up to date"] * 2


def test_a_changed_setting_makes_a_new_version_and_keeps_the_old(generated: Workshop) -> None:
    """The old version stays as it was, and changing back takes it up again without work."""
    _, old = generated.make("generate", "filter")
    before = tree(old.path)
    (new,) = generated.make("filter", overrides=("filter.rules.0.min_chars=6",))
    assert (old.name[:4], new.name[:4]) == ("0001", "0002")
    assert tree(old.path) == before
    assert generated.run.current("filter") is not None
    examined = checks.examine(generated.plan(), generated.run).rows[1]
    assert (examined.would, examined.why) == ("switch", f"to {old.name}")
    (back,) = generated.make("filter")
    assert back.name == old.name
    assert len(generated.run.versions("filter")) == 2
    assert generated.states()["filter"] == "done"


def test_again_makes_a_new_version_of_the_same(generated: Workshop) -> None:
    """--again runs what is there already; the rows are the same to the byte."""
    (first,) = generated.make("generate")
    (second,) = generated.make("generate", again=True)
    assert second.name[:4] == "0002" and second.manifest.fingerprint == first.manifest.fingerprint
    assert [s.sha256 for s in first.manifest.shards] == [s.sha256 for s in second.manifest.shards]


def test_nothing_is_asked_twice(generated: Workshop) -> None:
    """A new version over the same questions answers from the memo, whatever became of the engine."""
    generated.make("generate")
    (generated.folder / "recording.jsonl").write_bytes(orjson.dumps({"words": WORDS}) + b"\n")
    (version,) = generated.make("generate", overrides=("generate.heldout=0.5",))
    assert version.manifest.usage["remembered"] == 8 + 2  # the empty answer was tried three times
    assert "asked" not in version.manifest.usage
    with Memo(generated.run.memo) as memo:
        assert len(memo) == 8 + 2


def test_an_answer_that_failed_is_asked_again(workshop: Workshop, recorded: Recorded) -> None:
    """A teacher that answers nothing makes no version; what it did not answer is not remembered."""
    with pytest.raises(ModelError, match="answered none of 8 requests; the last problem: not in the recording"):
        workshop.make("generate")
    assert workshop.run.versions("generate") == []
    recorded("generate")
    (version,) = workshop.make("generate")
    assert "no_answer" not in version.manifest.ledger[0].dropped
    assert version.manifest.ledger[0].kept


def test_generate_accounts_for_every_seed(generated: Workshop) -> None:
    """Eight seeds: one answer cut, one empty, six kept, in the order asked, held-out ones apart."""
    (version,) = generated.make("generate")
    (tally,) = version.manifest.ledger
    assert (tally.came, tally.kept, tally.dropped) == (8, 6, {"truncated": 1, "empty_answer": 1})
    counts = version.manifest.counts
    assert counts["kept"] + counts["heldout"] == 6 and counts["dropped"] == 2 and counts["heldout"] > 0
    kept = [int(r.prompt.split("number ")[1].rstrip(".")) for r in version.read("kept")]
    assert kept == sorted(kept)
    assert all(r.made_by.model == WORDS["model"] and r.meta["prompt"] == r.prompt for r in version.read("kept"))
    ids = [r.id for shard in SHARDS for r in version.read(shard)]
    assert len(set(ids)) == 8


def test_truncated_answers_may_be_kept(generated: Workshop) -> None:
    """`truncated: keep` keeps an answer that max_tokens cut."""
    (version,) = generated.make("generate", overrides=("generate.truncated=keep",))
    assert version.manifest.ledger[0].dropped == {"empty_answer": 1}


def test_several_samples_of_one_seed_differ(workshop: Workshop, recorded: Recorded) -> None:
    """Each sample is a question of its own: its own id, its own seed for the engine."""
    recorded("generate", overrides=("generate.samples=3",))
    (version,) = workshop.make("generate", overrides=("generate.samples=3",))
    made = [r for shard in SHARDS for r in version.read(shard)]
    assert len({r.id for r in made}) == len({r.made_by.seed for r in made}) == 24
    assert {r.made_by.sample for r in made} == {0, 1, 2}


def test_the_ledger_adds_up_from_step_to_step(generated: Workshop) -> None:
    """came = kept + dropped for every rule, and what one keeps is what the next one gets."""
    generated.make("generate")
    (version,) = generated.make("filter")
    ledger = version.manifest.ledger
    assert [t.step for t in ledger] == ["length", "exact"]
    assert ledger[0].came == 6
    assert all(t.came == t.kept + sum(t.dropped.values()) for t in ledger)
    assert all(a.kept == b.came for a, b in itertools.pairwise(ledger))
    assert sum(version.manifest.counts.values()) == 6
    (double,) = version.read("dropped")
    assert (double.by, double.reason) == ("exact", "duplicate")
    assert {c.name for c in double.checks} == {"generate", "length", "exact"}


def test_two_judges_in_one_chain(workshop: Workshop, recorded: Recorded) -> None:
    """The second judge sees what the first one kept, and every verdict lands on its own record."""
    bounds = {"first": 3, "second": 2}
    judges = [{"kind": "judge", "name": n, "prompt": workshop.rubric(n), "min_score": m} for n, m in bounds.items()]
    write_plan(workshop.folder, filter={"rules": judges})
    recorded("generate", "filter")
    _, version = workshop.make("generate", "filter")
    first, second = version.manifest.ledger
    kept = [*version.read("kept"), *version.read("heldout")]
    dropped = list(version.read("dropped"))
    assert first.came == 6 and first.kept == second.came == second.kept == len(kept)
    for one in kept + dropped:
        n = int(one.prompt.split("number ")[1].rstrip("."))
        assert one.scored("first") == 1 + n % 5
        assert one.scored("second") == (5 if 1 + n % 5 >= 3 else None)
    assert {one.reason for one in dropped} == {"low_score"}
    assert version.manifest.usage["asked"] == 6 + len(kept)


def test_another_version_as_input(generated: Workshop) -> None:
    """--input takes a version of the stage above by ordinal, name, stage/ordinal or folder."""
    (first,) = generated.make("generate")
    generated.make("generate", overrides=("generate.truncated=keep",))
    (current,) = generated.make("filter")
    assert current.manifest.ledger[0].came == 7
    for name in ("1", "0001", first.name, f"generate/{first.name}", str(first.path)):
        (version,) = generated.make("filter", input=name)
        assert version.manifest.inputs[0].version == first.name
        assert version.manifest.ledger[0].came == 6
    assert len(generated.run.versions("filter")) == 2


@pytest.mark.parametrize(
    ("name", "says"), [("7", "generate has no version 7; there are: 0001-"), ("nothing.jsonl", "neither a version")]
)
def test_an_input_that_is_not_there(generated: Workshop, name: str, says: str) -> None:
    """A version or file that does not exist is refused, with those that do."""
    generated.make("generate")
    with pytest.raises(UsageError, match=says):
        generated.make("filter", input=name)


def test_a_stage_before_its_input_is_refused(generated: Workshop) -> None:
    """Filter before generate says what to run first."""
    with pytest.raises(UsageError, match="filter reads generate, which has not been run"):
        generated.make("filter")
    with pytest.raises(UsageError, match="has no section `curate`; it has generate, filter"):
        generated.make("curate")
    with pytest.raises(UsageError, match="reads no rows"):
        generated.make("generate", input="1")


SHAPES: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "It is two."}]},
    "pair": {"prompt": "1 + 1", "completion": "It is two."},
    "turns": {
        "prompt": [{"role": "user", "content": "1 + 1"}],
        "completion": [{"role": "assistant", "content": "It is two."}],
    },
    "alpaca": {"instruction": "1 + 1", "input": "", "output": "It is two."},
    "sharegpt": {"conversations": [{"from": "human", "value": "1 + 1"}, {"from": "gpt", "value": "It is two."}]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_as_input(workshop: Workshop, shape: str) -> None:
    """Any common JSONL of examples goes through the filters; other keys are carried along."""
    write_plan(workshop.folder, filter=RULES)
    rows = [SHAPES[shape] | {"topic": "산수", "n": n} for n in range(2)]
    file = workshop.folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (version,) = workshop.make("filter", input=str(file))
    (kept,), (dropped,) = version.read("kept"), version.read("dropped")
    assert (kept.prompt, kept.answer, kept.meta) == ("1 + 1", "It is two.", {"topic": "산수", "n": 0})
    assert (dropped.by, dropped.meta["n"]) == ("exact", 1)
    assert kept.id != dropped.id
    assert workshop.states()["filter"] == "differs"


def test_this_projects_own_rows_as_input(workshop: Workshop) -> None:
    """Records keep their ids, checks and split; a drop gets a second chance."""
    write_plan(workshop.folder, filter=RULES)
    gone = record("I was dropped.", id="b").model_copy(update={"by": "x", "reason": "y"})
    rows = [record("A good answer.", id="a"), gone, record("Held out.", id="c", split="heldout")]
    (workshop.folder / "rows.jsonl").write_bytes(b"\n".join(r.line() for r in rows))
    (version,) = workshop.make("filter", input=str(workshop.folder / "rows.jsonl"))
    assert [r.id for r in version.read("kept")] == ["a", "b"]
    assert [r.id for r in version.read("heldout")] == ["c"]


@pytest.mark.parametrize(
    ("line", "reason", "says"),
    [
        ("{", "not_json", "rows.jsonl:2: unexpected end of data"),
        ("[1]", "not_an_object", "rows.jsonl:2"),
        ('{"text": "x"}', "no_conversation", "holds no example; it needs `messages`"),
        ('{"messages": []}', "no_conversation", "holds no example"),
        ('{"messages": "x"}', "no_conversation", "not a conversation"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "no_conversation", "not a conversation"),
        ('{"messages": [{"role": "user"}]}', "no_conversation", "not a conversation"),
        ('{"conversations": [{"from": "alien", "value": "x"}]}', "no_conversation", "not a conversation"),
        ('{"prompt": 1, "completion": "x"}', "no_conversation", "not a conversation"),
        ('{"instruction": null, "output": null}', "no_conversation", "not a conversation"),
        ('{"id": "a", "messages": [], "checks": [], "made_by": {}}', "no_conversation", "not a conversation"),
        ("\udcff\udcfe", "not_utf8", "byte 0"),
        ('{"prompt": "' + "x" * (9 << 20) + '", "completion": "y"}', "line_too_long", "9.0 MiB, over 8"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_broken_line_is_quarantined(workshop: Workshop, line: str, reason: str, says: str) -> None:
    """The filter drops a bad row with its place and what it said; stages that cannot drop it refuse the file."""
    write_plan(workshop.folder, filter=RULES)
    good, file = json.dumps(SHAPES["pair"]), workshop.folder / "rows.jsonl"
    file.write_text(f"{good}\n{line}\n{good}\n", encoding="utf-8", errors="surrogateescape")
    (version,) = workshop.make("filter", input=str(file))
    broken = next(version.read("dropped"))
    assert (broken.by, broken.reason) == ("read", reason)
    assert says in broken.detail and broken.detail.count(f"{file}:2") == 1
    assert len(broken.prompt) <= 2000 and (line[:20] in broken.prompt or reason == "not_utf8")
    assert version.manifest.ledger[0].dropped == {reason: 1}
    assert sum(version.manifest.counts.values()) == 3


def test_a_broken_line_is_refused_where_it_cannot_be_dropped(workshop: Workshop) -> None:
    """Training reads what it is given as it is: a line that is no row stops it before anything is written."""
    write_plan(workshop.folder, curate={"keep": 1, "embed": {"model": str(workshop.folder / "model")}})
    (workshop.folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"rows\.jsonl:2 is not JSON"):
        workshop.make("curate", input=str(workshop.folder / "rows.jsonl"))
    assert workshop.run.folders("curate") == []


def test_a_shard_that_was_changed_is_refused(generated: Workshop) -> None:
    """A stage does not read rows that are not what their manifest says, and leaves nothing behind."""
    (version,) = generated.make("generate")
    shard = version.path / "kept-00000.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"friend", b"fiend!"))
    with pytest.raises(DataError, match=r"kept-00000\.jsonl does not match its manifest"):
        generated.make("filter")
    assert generated.run.folders("filter") == []


def test_one_writer_at_a_time(generated: Workshop) -> None:
    """A second process is refused with the number of the first; when that is gone it may write."""
    code = (
        "import sys; from pathlib import Path; from pipeline.run import Run\n"
        f"with Run(Path({str(generated.run.path)!r})).writing():\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"is being written by process {holder.pid}"):
            generated.make("generate")
        assert generated.states()["generate"] == "missing"
    finally:
        holder.communicate()
    assert len(generated.make("generate")) == 1


def test_a_failed_stage_can_be_run_again(generated: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that fails midway leaves no version, frees the run, and keeps the words that were said."""

    def fails(self: Version, shard: str) -> Any:
        raise PipelineError("the disk is on fire")

    generated.make("generate")
    with monkeypatch.context() as patch:
        patch.setattr(Version, "lines", fails)
        with pytest.raises(PipelineError, match="on fire"):
            generated.make("filter")
    assert generated.states() == {"generate": "done", "filter": "missing"}
    generated.make("filter")
    assert generated.states()["filter"] == "done"


def test_check_writes_nothing(generated: Workshop) -> None:
    """`check` on a fresh plan says everything would run and leaves no folder."""
    found = checks.examine(generated.plan(), generated.run)
    assert [(row.stage, row.would, row.why) for row in found.rows] == [
        ("generate", "run", "not run yet"), ("filter", "run", "not run yet"),
    ]  # fmt: skip
    assert not generated.run.path.exists()


def test_check_names_the_changed_setting(generated: Workshop) -> None:
    """After a change, `check` says which setting makes a stage run again."""
    generated.make("generate", "filter")
    rows = checks.examine(generated.plan("filter.rules.0.min_chars=7"), generated.run).rows
    assert [(row.would, row.why) for row in rows][1] == ("run", "filter.rules.0.min_chars: 5 -> 7")
    rows = checks.examine(generated.plan("generate.heldout=0.5"), generated.run).rows
    assert rows[1].why == "what it reads has changed"


def test_a_seed_that_cannot_be_asked_costs_nothing(workshop: Workshop) -> None:
    """Every seed is read before the first is asked: a bad one is named, nothing is written."""
    (workshop.folder / "seeds.jsonl").write_text('{"prompt": "Tell me about number 1."}\n{"prompt": ""}\n')
    source = {"source": {"kind": "jsonl", "path": "seeds.jsonl"}, "task": {"kind": "respond"}}
    write_plan(workshop.folder, generate=source)
    with pytest.raises(UsageError, match=r"seeds\.jsonl:2: prompt holds neither a prompt nor messages"):
        workshop.make("generate")
    assert workshop.run.folders("generate") == []


def test_from_and_until(generated: Workshop) -> None:
    """A range of stages, both ends included; an empty or unknown one is refused."""
    plan = generated.plan()
    assert flow.between(plan, "", "") == ["generate", "filter"]
    assert flow.between(plan, "filter", "") == ["filter"]
    assert flow.between(plan, "", "generate") == ["generate"]
    with pytest.raises(UsageError, match="--from filter comes after --until generate"):
        flow.between(plan, "filter", "generate")
    with pytest.raises(UsageError, match="no section `train`"):
        flow.between(plan, "train", "")


def test_the_manifest_tells_what_made_it(generated: Workshop) -> None:
    """Settings, inputs, usage, environment and times are there; the clock appears nowhere else."""
    made, version = generated.make("generate", "filter")
    manifest = version.manifest
    assert manifest.settings == json.loads(json.dumps(generated.plan().settings("filter")))
    assert [(i.stage, i.fingerprint) for i in manifest.inputs] == [("generate", made.manifest.fingerprint)]
    assert made.manifest.usage["completion_tokens"] == 6 * 9 + 3 + 3 * 9  # the empty one three times
    assert manifest.environment["packages"]["pipeline"]
    assert manifest.started.endswith("+00:00") and manifest.finished >= manifest.started
    rows = b"".join(p.read_bytes() for p in version.path.glob("*.jsonl"))
    assert manifest.started[:10].encode() not in rows


def test_equal_questions_are_asked_once(workshop: Workshop, recorded: Recorded) -> None:
    """Two seeds with one prompt cost one answer, and both get it."""
    prompts = ["Tell me about number 3."] * 3 + ["Tell me about number 4."]
    rows = b"".join(orjson.dumps({"prompt": p, "n": n}) + b"\n" for n, p in enumerate(prompts))
    (workshop.folder / "seeds.jsonl").write_bytes(rows)
    source = {"source": {"kind": "jsonl", "path": "seeds.jsonl"}, "task": {"kind": "respond"}, "heldout": 0}
    write_plan(workshop.folder, generate=source)
    recorded("generate")
    (version,) = workshop.make("generate")
    assert version.manifest.usage["asked"] == 2
    assert [r.meta["n"] for r in version.read("kept")] == [0, 1, 2, 3]
    assert len({r.answer for r in version.read("kept")}) == 2
