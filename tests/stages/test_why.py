"""why: a record's story is what really happened to it, and what cannot be known is said."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.cells import cell_len
from rich.console import Console

from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.errors import UsageError
from pipeline.memo import Memo
from pipeline.records import Check, Record
from pipeline.store import Input, Manifest, Version, VersionWriter
from pipeline.visible import visible
from stages.tables_why import told
from stages.why import At, Story, why
from tests.helpers import opens_scripted, write_plan
from tests.stages.conftest import Workshop, teacher

Rows = dict[str, list[dict[str, Any]]]


def voting(request: Request) -> Completion:
    """The usual teacher, whose verdicts say how sure it is and what it thought."""
    if not request.choices:
        return teacher(request)
    word = "1" if "number 3" in request.messages[-1].content else "4"
    return Completion(text=word, reasoning="I 생각", logprobs={word: -0.1, "2": -3.0, "x": -4.0}, completion_tokens=1)


class Told:
    """A run of generate and filter, with a curate and a train version made by hand from the filter's."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        rules = [{"kind": "length", "min_chars": 5}, {"kind": "exact"},
                 {"kind": "judge", "prompt": shop.rubric("first"), "min_score": 2}]  # fmt: skip
        write_plan(shop.folder, filter={"rules": rules}, curate={"keep": 1, "embed": {"model": str(shop.folder)}})
        self.generate, self.filter = shop.make("generate", "filter")
        self.chosen, *self.left = list(self.filter.read("kept"))

    def story(self, wanted: str, input: str = "", *overrides: str) -> Story:
        """What is told of a record."""
        return why(self.shop.plan(*overrides), self.shop.run, wanted, input)

    def dropped(self, reason: str) -> Record:
        """A dropped row, of whichever stage."""
        rows = (r for v in (self.filter, self.generate) for r in v.read("dropped"))
        return next(r for r in rows if r.reason == reason)

    def curate(self) -> Version:
        """A choice of one."""
        other = self.left[0]
        near = Check(name="nearest", value=0.75, detail=self.chosen.id)
        rows = [self.chosen.checked(Check(name="topic", value=2, detail="a fox; 0.1 from its middle"))
                .checked(near.model_copy(update={"detail": other.id})).checked(Check(name="cluster", value=1)),
                other.checked(near).checked(Check(name="cluster", passed=False, reason="cluster_full"))]  # fmt: skip
        return self.made("curate", self.filter, rows, {})

    def train(self, source: Version) -> Version:
        """A student of two rows, both of the chosen record."""
        rows = [{"id": self.chosen.id, "completion": [{"role": "assistant", "content": f"{n}번째"}]} for n in (1, 2)]
        return self.made("train", source, [], {"rows.jsonl": [*rows, {"id": "another", "text": self.chosen.id}]})

    def made(self, stage: str, source: Version, rows: list[Record], files: Rows) -> Version:
        """A version of a stage, current from now on."""
        given = Input(stage=source.manifest.stage, version=source.name, fingerprint=source.manifest.fingerprint)
        print_ = f"{len(self.shop.run.versions(stage)) + 1:08x}" * 8
        folder = self.shop.run.folder_for(stage, print_)
        settings = self.shop.plan().settings(stage) if stage in self.shop.plan().stages() else {}
        manifest = Manifest(stage=stage, version=folder.name, fingerprint=print_, settings=settings, inputs=[given])
        out = VersionWriter(folder, manifest)
        out.begin()
        for record in rows:
            out.write(record)
        for name, lines in files.items():
            (folder / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        version = out.seal()
        self.shop.run.set_current(version)
        return version


@pytest.fixture
def run(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Made with a teacher that votes; from then on nobody answers."""
    with monkeypatch.context() as patch:
        patch.setattr(Replay, "open", opens_scripted(voting))
        made = Told(workshop)
    monkeypatch.setattr(Replay, "open", nobody)
    yield made


def nobody(self: Replay, log: Path | None = None) -> Any:
    """An engine that must not be opened."""
    raise AssertionError("why asks nobody")


def at(story: Story, stage: str) -> At:
    """The story's part in one stage."""
    return next(part for part in story.stages if part.stage == stage)


def test_a_kept_record(run: Told) -> None:
    """Seed with its place, the question as it was asked, the answer, and every measure beside its bound."""
    story = run.story(run.chosen.id)
    assert story.fate == "kept in filter"
    (seed,) = story.seeds
    assert (seed.id, seed.fields["prompt"]) == (run.chosen.seeds[0], run.chosen.prompt)
    assert seed.where.startswith("grid:")
    (asked,) = story.asked
    assert (asked.messages, asked.said) == ([{"role": "user", "content": run.chosen.prompt}], run.chosen.answer)
    assert asked.gave and asked.remembered and not story.notes
    assert [part.fate for part in story.stages] == ["kept", "kept", ""]
    assert at(story, "curate").note == "not run yet"
    length, exact, judge = at(story, "filter").checks
    assert [(b.setting, b.bound, b.value, b.held) for b in length.bounds] == [("min_chars", 5, length.value, True)]
    assert (exact.name, exact.bounds, exact.votes) == ("exact", [], [])
    (vote,) = judge.votes
    assert (vote.said, vote.reasoning, vote.shares) == ("4", "I 생각", {"2": 0.0498, "4": 0.9048})
    assert run.chosen.answer in judge.asked[0]["content"]


def test_a_dropped_record(run: Told) -> None:
    """Where, by whom and why; rules behind the one that dropped it never saw it, nor did later stages."""
    low = run.dropped("low_score")
    story = run.story(low.id)
    part = at(story, "filter")
    assert (part.fate, part.by, part.reason, part.detail) == ("dropped", "judge", "low_score", low.detail)
    assert [(b.setting, b.held) for b in part.checks[-1].bounds] == [("min_score", False)]
    run.curate()
    assert at(run.story(low.id), "curate").note.startswith("dropped before")
    cut = run.story(run.dropped("truncated").id)
    assert cut.fate == "dropped in generate by generate: truncated"
    assert at(cut, "filter").note == at(cut, "curate").note.split(";")[0] == "dropped before"
    twin = at(run.story(run.dropped("duplicate").id), "filter")
    assert [check.measured for check in twin.checks] == [True, True, False]


def test_thresholds_are_those_of_the_version(run: Told) -> None:
    """A plan that says something else by now changes no bound; the votes of another judge are not its own."""
    story = run.story(run.chosen.id, "", "filter.rules.0.min_chars=9", "filter.rules.2.min_score=1")
    length, _, judge = at(story, "filter").checks
    assert [(b.setting, b.bound) for b in length.bounds] == [("min_chars", 5)]
    assert [(b.setting, b.bound) for b in judge.bounds] == [("min_score", 2)]
    assert not judge.votes
    assert "differs: filter.rules.0.min_chars: 5 -> 9" in at(story, "filter").note


def test_the_student_and_the_neighbour(run: Told) -> None:
    """Its topic, its rank, the text of the nearest chosen record, and its training rows, by id."""
    run.train(run.curate())
    story = run.story(run.chosen.id)
    part = at(story, "curate")
    (near,) = part.neighbours
    assert (near.id, near.how, near.cosine, near.text) == (run.left[0].id, "nearest", 0.75, run.left[0].answer)
    assert [(c.name, c.value) for c in part.checks] == [("topic", 2), ("nearest", 0.75), ("cluster", 1)]
    rows = at(story, "train").rows
    assert [row["completion"][0]["content"] for row in rows] == ["1번째", "2번째"]
    assert story.fate.startswith("trained on in train 0001-")
    other = run.story(run.left[0].id)
    assert other.fate == "dropped in curate by cluster: cluster_full"
    assert at(other, "train").note.startswith("dropped before")


def test_a_held_out_record(run: Told) -> None:
    """It never reaches the choice nor the student, and the story says so."""
    (record, *_) = run.filter.read("heldout")
    run.train(run.curate())
    story = run.story(record.id)
    assert story.fate.startswith("held out")
    assert at(story, "filter").fate == "held out"
    assert at(story, "curate").note.startswith("held out: it never enters training")
    assert at(story, "train").note.startswith("held out: it never enters training")


def test_a_stage_that_has_not_seen_it_yet(run: Told) -> None:
    """After another filter version the choice of before is stale; `input` goes back to what belonged together."""
    run.train(run.curate())
    (again,) = run.shop.make("filter", overrides=("filter.rules.0.min_chars=1000",))
    story = run.story(run.chosen.id, "", "filter.rules.0.min_chars=1000")
    assert story.fate.startswith("dropped in filter by length: too_short; but trained on in train 0001-")
    assert story.record["by"] == "length" and "stale: it read filter 0001-" in at(story, "curate").note
    assert at(story, "filter").by == "length" and at(story, "filter").version == again.name
    before = run.story(run.chosen.id, "filter/1")
    assert at(before, "filter").version == run.filter.name
    assert [part.fate for part in before.stages] == ["kept", "kept", "kept", "trained on"]


def test_ids(run: Told) -> None:
    """A beginning will do where it is the only one; else it is said which there are, or which is near."""
    assert run.story(run.chosen.id[:10]).id == run.chosen.id
    with pytest.raises(UsageError, match="begins several ids"):
        run.story("")
    typo = run.chosen.id[:-1] + "_"
    with pytest.raises(UsageError, match=f"did you mean {run.chosen.id}"):
        run.story(typo)
    with pytest.raises(UsageError, match=f"it is a seed, and {run.chosen.id} grew from it"):
        run.story(run.chosen.seeds[0])
    with pytest.raises(UsageError, match="of which stage"):
        run.story(run.chosen.id, "0001")


def test_what_cannot_be_put_together_again(run: Told) -> None:
    """Another prompt, another source, a forgotten answer: the record's own turns stand, with a note why."""
    (run.shop.folder / "other.jsonl").write_text('{"prompt": "another"}\n')
    other = 'generate.source={"kind": "jsonl", "path": "other.jsonl"}'
    story = run.story(run.chosen.id, "", other)
    assert (story.seeds, story.asked) == ([], []) and "no seed" in story.notes[0]
    story = run.story(run.chosen.id, "", "generate.task.system=Be brief.")
    assert not story.asked and "what the plan asks by now is not in the memo" in story.notes[0]
    run.shop.run.memo.unlink()
    story = run.story(run.chosen.id)
    assert [one.remembered for one in story.asked] == [False]
    assert not at(story, "filter").checks[-1].votes


def test_the_memo_stays_as_it_is(run: Told) -> None:
    """Looking asks nobody and remembers nothing new."""
    with Memo(run.shop.run.memo) as memo:
        before = len(memo)
    run.story(run.chosen.id)
    with Memo(run.shop.run.memo) as memo:
        assert len(memo) == before


def test_a_row_of_a_file(workshop: Workshop) -> None:
    """A stage that was run on a file: the record is followed to its line, the fields as they stand there."""
    file = workshop.folder / "rows.jsonl"
    rows = [{"prompt": "A", "completion": "b" * 9, "topic": "동물"}, {"prompt": "C", "completion": "d"}]
    file.write_text("".join(f"{orjson.dumps(row).decode()}\n" for row in rows), encoding="utf-8")
    write_plan(workshop.folder, filter={"rules": [{"kind": "length", "min_chars": 5}]})
    (version,) = workshop.make("filter", input=str(file))
    (record,) = version.read("kept")
    story = why(workshop.plan(), workshop.run, record.id)
    (line,) = story.seeds
    assert (line.where, line.fields) == (f"{file}:1", rows[0])
    assert not story.asked and not story.notes
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "has changed" in why(workshop.plan(), workshop.run, record.id).notes[0]
    file.unlink()
    assert "not there any more" in why(workshop.plan(), workshop.run, record.id).notes[0]


def test_pairs_and_answers(run: Told) -> None:
    """Preference pairs in which it stands, on either side, and what models answered to a held-out prompt."""
    (held, *_) = run.filter.read("heldout")
    pair = {"chosen_id": "x", "rejected_id": run.chosen.id}
    rows = [run.chosen, held]
    source = run.made("filter", run.generate, rows, {"pairs-00000.jsonl": [pair, {"chosen_id": "y"}]})
    run.made("evaluate", source, [], {"samples.jsonl": [{"id": held.id, "trained": "친구"}, {"id": "z"}]})
    assert at(run.story(run.chosen.id), "filter").rows == [pair]
    (part,) = (p for p in run.story(held.id).stages if p.stage == "evaluate")
    assert (part.fate, part.rows[0]["trained"]) == ("evaluated", "친구")
    outputs = {"id": held.id, "prompt": "?", "answers": {"trained": "친구예요"}}
    run.made("evaluate", source, [], {"outputs.jsonl": [outputs], "samples.jsonl": [{"id": held.id, "trained": "x"}]})
    story = run.story(held.id)
    assert at(story, "evaluate").rows == [outputs]
    assert "answers.trained 친구예요" in " ".join(plain(story).split())


def test_the_one_of_several_answers(recorded: Callable[..., None], workshop: Workshop) -> None:
    """Several answers to one prompt: the one the record is from is marked."""
    source = {"kind": "grid", "axes": {"prompt": ["Tell me about number 1."]}}
    task = {"kind": "preference", "answers": 3}
    write_plan(workshop.folder, generate={"source": source, "task": task, "heldout": 0})
    said = iter("abc")
    recorded("generate", script=lambda r: Completion(text=next(said), finish_reason="stop"))
    (version,) = workshop.make("generate")
    for n, record in enumerate(version.read("kept")):
        asked = why(workshop.plan(), workshop.run, record.id).asked
        assert [one.said for one in asked] == ["a", "b", "c"]
        assert [one.gave for one in asked] == [place == n for place in range(3)]


def plain(story: Story, width: int = 100) -> str:
    """The story as it is printed."""
    console = Console(width=width, file=io.StringIO())
    with console.capture() as said:
        console.print(told(story))
    return said.get()


def test_what_is_printed(run: Told) -> None:
    """The whole of it in order, in lines that fit, without a code a terminal would obey."""
    answer = "깊은 산속\x1b[31m 옹달샘 [bold]\x9b2J ‮"
    messages = [*run.chosen.messages[:-1], run.chosen.messages[-1].model_copy(update={"content": answer})]
    changed = run.chosen.model_copy(update={"messages": messages})
    run.made("filter", run.generate, [changed], {})
    said = plain(run.story(run.chosen.id), 60)
    assert max(map(cell_len, said.splitlines())) <= 60
    assert "␛[31m 옹달샘 [bold]" in said and not {"\x1b", "\x9b", "\u202e"} & set(said)
    places = [said.index(word) for word in ("\nseed", "\nasked", "\nanswer", "\ngenerate", "\nfilter", "\ncurate")]
    assert places == sorted(places)
    assert "its text was changed here" in said
    said = " ".join(plain(run.story(run.chosen.id, "filter/1")).split())
    assert "min_score 2" in said and "4 (2 5%, 4 90%)" in said and "it thought: I 생각" in said


def test_visible_text_keeps_its_length() -> None:
    """One sign for one control character; what people write stays."""
    assert visible("가\n\tb😀") == "가\n\tb😀"
    every = "".join(map(chr, range(0x2100)))
    assert len(visible(every)) == len(every)
    assert not any(ord(sign) < 32 and sign not in "\n\t" for sign in visible(every))
