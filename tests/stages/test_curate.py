"""The stage over rows with a tiny embedding model: who is kept, who is not and why, in which order."""

import itertools
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.errors import PipelineError, UsageError
from pipeline.records import Check, Record
from pipeline.store import Version
from stages import flow, sweep, vectors
from stages.embedding import Embed
from stages.plan import load
from tests.helpers import record, write_plan
from tests.stages import tiny, tiny_embedder
from tests.stages.conftest import Workshop

pytestmark = pytest.mark.slow

TOPICS = {
    "sea": "boat sail wave harbour anchor fish captain tide",
    "kitchen": "bread flour oven butter spoon recipe salt cook",
    "stars": "moon orbit telescope comet night planet light far",
    "garden": "rose soil rain seed spade bloom bee leaf",
}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedding model that knows the words of all topics."""
    return tiny_embedder.folder(tmp_path_factory.mktemp("embedder"), " ".join(TOPICS.values()).split())


def rows(each: int = 10) -> list[Record]:
    """So many of every topic, then a twin of every fifth row with a better score."""
    drawn = random.Random(3)
    made = []
    for topic, words in TOPICS.items():
        for n in range(each):
            answer = " ".join(drawn.choices(words.split(), k=12))
            made.append(scored(answer, f"{topic}-{n:02d}", 1 + n % 4, topic))
    twins = [scored(r.answer, f"{r.id}-twin", 5, r.meta["source"]) for r in made[::5]]
    return made + twins


def scored(answer: str, name: str, score: float, source: str) -> Record:
    checks = [Check(name="given"), Check(name="judge", value=score), Check(name="ease", value=len(set(answer)))]
    return record(answer, id=name, checks=checks, meta={"source": source})


class Bench:
    """A plan with a curate section, and a file of rows for it to read."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.shop, self.model, self.file = Workshop(folder), model, folder / "rows.jsonl"

    def curate(self, given: Iterable[Record], **settings: Any) -> Version:
        """Run the stage over these rows."""
        self.file.write_bytes(b"".join(r.line() for r in given))
        embed = settings.pop("embed", {}) | {"model": str(self.model)}
        write_plan(self.shop.folder, curate={"keep": 8, "dedup": 0.99, "embed": embed} | settings)
        (version,) = self.shop.make("curate", input=str(self.file))
        return version


@pytest.fixture
def bench(tmp_path: Path, model: Path) -> Bench:
    """A fresh folder."""
    return Bench(tmp_path, model)


def ids(version: Version) -> list[str]:
    return [r.id for r in version.read("kept")]


def check(row: Record, name: str) -> Check:
    return next(c for c in row.checks if c.name == name)


def test_every_row_is_kept_or_says_why(bench: Bench) -> None:
    """Eight are kept; the others are duplicates that name a better row, or have someone who stands for them."""
    version = bench.curate(rows())
    kept, dropped = list(version.read("kept")), list(version.read("dropped"))
    assert len(kept) == 8 and len(kept) + len(dropped) == len(rows()) == 48
    assert {r.meta["source"] for r in kept} == set(TOPICS)
    assert sorted(check(r, "cluster").value for r in kept) == list(range(1, 9))
    assert Counter(r.reason for r in dropped) == {"duplicate_of": 8, "cluster_full": 32}
    for row in dropped:
        if row.reason == "duplicate_of":
            assert row.by == "dedup" and row.detail.startswith(f"{row.id}-twin, cosine 1.000")
    for row in [*kept, *(r for r in dropped if r.by == "cluster")]:
        near = check(row, "nearest")
        assert near.detail in ids(version) and near.detail != row.id and -1 <= near.value <= 1
        assert check(row, "topic").detail.count(";") == 1
    steps = {t.step: (t.came, t.kept, t.dropped) for t in version.manifest.ledger}
    assert steps == {"dedup": (48, 40, {"duplicate_of": 8}), "cluster": (40, 8, {"cluster_full": 32})}


def test_what_lies_beside_the_shards(bench: Bench) -> None:
    """Vectors with their ids, a map, and figures beside random ones."""
    version = bench.curate(rows())
    stored = np.load(version.path / "embeddings.npy", mmap_mode="r")
    lines = [json.loads(line) for line in (version.path / "embeddings.jsonl").open()]
    assert stored.shape == (48, tiny_embedder.WIDTH) and stored.dtype == np.float32
    assert [line["id"] for line in lines] == sorted(r.id for r in rows())
    assert Counter(line["fate"] for line in lines) == {"chosen": 8, "duplicate": 8, "not_chosen": 32}
    assert len({(line["x"], line["y"]) for line in lines}) == 40
    assert (version.path / "map.svg").read_text().startswith("<?xml")
    figures = version.manifest.figures
    assert figures["comparison"]["figures"]["score_mean"]["chosen"] == np.mean(
        [check(r, "judge").value for r in version.read()]
    )
    assert sum(t["rows"] for t in figures["topics"]) == 48 and sum(t["chosen"] for t in figures["topics"]) == 8
    assert figures["shares"]["source"]["sea"][0] == 0.25
    named = {f.file for f in version.manifest.files}
    assert {"embeddings.npy", "embeddings.jsonl", "map.svg"} <= named


def test_the_order_of_the_input_does_not_matter(bench: Bench, tmp_path: Path, model: Path) -> None:
    """Shuffled rows give the same shard, byte for byte."""
    given = rows()
    first = bench.curate(given)
    random.Random(0).shuffle(given)
    other = Bench(tmp_path / "other", model)
    other.shop.folder.mkdir(exist_ok=True)
    second = other.curate(given)
    assert (first.path / "kept-00000.jsonl").read_bytes() == (second.path / "kept-00000.jsonl").read_bytes()
    assert first.manifest.figures == second.manifest.figures


def test_a_second_run_embeds_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all vectors remembered no model is loaded."""
    bench.curate(rows())
    monkeypatch.setattr(Embed, "open", lambda self: pytest.fail("a model was loaded"))
    assert len(ids(bench.curate(rows(), keep=12))) == 12


def test_a_killed_run_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was embedded before is not embedded again."""
    monkeypatch.setattr(vectors, "WINDOW", 8)
    encoded: list[int] = []
    real = Embed.open

    class Dying:
        def __init__(self, encoder: Any, lives: int) -> None:
            self.encoder, self.lives = encoder, lives

        def encode(self, texts: list[str]) -> Any:
            if len(encoded) == self.lives:
                raise KeyboardInterrupt
            encoded.append(len(texts))
            return self.encoder.encode(texts)

        def close(self) -> None:
            self.encoder.close()

    monkeypatch.setattr(Embed, "open", lambda self: Dying(real(self), 2))
    with pytest.raises(KeyboardInterrupt):
        bench.curate(rows())
    before = sum(encoded)
    encoded.clear()
    monkeypatch.setattr(Embed, "open", lambda self: Dying(real(self), 99))
    assert len(ids(bench.curate(rows()))) == 8
    assert before > 0 and before + sum(encoded) == len({r.answer for r in rows()})


@pytest.mark.parametrize("order", ["shuffled", "rank", "topic", "ascending", "descending"])
def test_orders(bench: Bench, order: str) -> None:
    """The same rows in the order that is wanted."""
    settings = {"order": order} | ({"order_by": "ease"} if order.endswith("ending") else {})
    version = bench.curate(rows(), **settings)
    kept = list(version.read("kept"))
    assert {r.id for r in kept} == set(ids(bench.curate(rows())))
    values = {
        "rank": [check(r, "cluster").value for r in kept],
        "topic": [check(r, "topic").value for r in kept],
        "ascending": [check(r, "ease").value for r in kept],
        "descending": [-check(r, "ease").value for r in kept],
    }
    if order == "shuffled":
        assert all(listed != sorted(listed) for listed in values.values())
    else:
        assert values[order] == sorted(values[order])


def test_rows_without_a_vector(bench: Bench) -> None:
    """An empty answer has no vector here: dropped by itself, and the rest goes on."""
    version = bench.curate([*rows(), record("", id="empty")])
    (row,) = [r for r in version.read("dropped") if r.by == "embed"]
    assert (row.id, row.reason) == ("empty", "no_vector")
    assert version.manifest.ledger[0].dropped == {"no_vector": 1}
    assert "1 rows were not measured by judge: they count as 0" in version.manifest.notes


def test_nothing_but_rows_without_a_vector(bench: Bench) -> None:
    """One message."""
    with pytest.raises(PipelineError, match="no finite vector for any row"):
        bench.curate([record("", id="a"), record("", id="b")])


def test_more_wanted_than_there_are(bench: Bench) -> None:
    """All are kept, and a note says so."""
    version = bench.curate(rows(), keep=100)
    assert len(ids(version)) == 40
    assert version.manifest.notes == [
        "kept all 40 there were to choose from, fewer than the 100 wanted, 8 near-duplicates left out"
    ]


def test_a_share(bench: Bench) -> None:
    """A quarter of all rows, counted before duplicates go."""
    assert len(ids(bench.curate(rows(), keep=0.25))) == 12


@pytest.mark.parametrize("many", [1, 5])
def test_all_the_same(bench: Bench, many: int) -> None:
    """One record, or many that say the same: one is kept, whatever is drawn and counted."""
    given = [scored("boat sail", f"r{n}", n, "sea") for n in range(many)]
    assert ids(bench.curate(given, keep=3)) == [f"r{many - 1}"]
    assert sorted(ids(bench.curate(given, keep=3, dedup=None))) == sorted(r.id for r in given)[-3:]


def test_no_rows(bench: Bench) -> None:
    """Nothing to choose from is an error that says where to look."""
    with pytest.raises(PipelineError, match="nothing to curate"):
        bench.curate([])


def test_scores_multiply_and_turn_around(bench: Bench) -> None:
    """`-NAME` prefers less; a list is a product."""
    given = [scored("boat sail", "low", 1, ""), scored("boat sail", "high", 4, "")]
    assert ids(bench.curate(given, keep=1)) == ["high"]
    assert ids(bench.curate(given, keep=1, score="-judge")) == ["low"]
    assert ids(bench.curate(given, keep=1, score=["judge", "-ease"])) == ["low"]


def test_a_template(bench: Bench) -> None:
    """What is embedded may be any text of the record: here two rows that differ in the answer alone are twins."""
    given = [record("boat", id="a", prompt="moon"), record("rose", id="b", prompt="moon")]
    assert len(ids(bench.curate(given, embed={"template": "{{ prompt }} of {{ task }}"}))) == 1
    assert len(ids(bench.curate(given))) == 2


def test_a_share_of_no_group_is_told_before_embedding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded for a plan that cannot work."""
    monkeypatch.setattr(Embed, "open", lambda self: pytest.fail("a model was loaded"))
    with pytest.raises(PipelineError, match=r"a share for lake[\s\S]*garden, kitchen, sea, stars"):
        bench.curate(rows(), select={"kind": "mixture", "by": "meta.source", "shares": {"lake": 1}})


def test_gradients(bench: Bench) -> None:
    """A selector with a space of its own chooses by it, within groups and for a replay too."""
    student = str(tiny.folder(bench.shop.folder / "student", layers=1))
    old(bench.shop.folder)
    gradient = {"kind": "gradient", "model": student, "max_tokens": 32, "dimensions": 64}
    mixture = {"kind": "mixture", "by": "meta.source", "within": gradient}
    version = bench.curate(rows(), select=mixture, replay=[{"source": "old.jsonl", "share": 0.25, "select": gradient}])
    assert [t.kept for t in version.manifest.ledger[-2:]] == [6, 2]
    assert not (version.path / "features.npy").exists() and not (version.path / "work").exists()
    assert np.load(version.path / "embeddings.npy").shape == (88, tiny_embedder.WIDTH)
    with pytest.raises(UsageError, match="different students"):
        bench.curate(rows(), select=gradient, replay=[{"source": "old.jsonl", "select": gradient | {"dimensions": 32}}])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"embed": {"template": "{{ promt }}"}}, "'promt' is not known here; did you mean prompt"),
        ({"embed": {"template": "{{ prompt"}}, "not a template"),
        ({"embed": {"template": "{{ prompt }}", "text": "both"}}, "not both"),
        ({"keep": 0}, "keep"),
        ({"keep": 1.5}, "keep"),
        ({"dedup": 0}, "dedup"),
        ({"order_by": "judge"}, "order_by"),
        ({"replay": [{"source": "x", "share": 0.6}, {"source": "y", "share": 0.4}]}, "leave nothing for new records"),
    ],
)
def test_wrong_settings(bench: Bench, settings: dict[str, Any], said: str) -> None:
    """Refused before anything runs."""
    with pytest.raises(UsageError, match=said):
        bench.curate(rows(), **settings)


def old(folder: Path, n: int = 40) -> Path:
    """Rows of another time, as a file."""
    drawn = random.Random(9)
    words = " ".join(TOPICS.values()).split()
    made = [scored(" ".join(drawn.choices(words, k=12)), f"old-{i:02d}", 3, "old") for i in range(n)]
    (folder / "old.jsonl").write_bytes(b"".join(r.line() for r in made))
    return folder / "old.jsonl"


def test_replay(bench: Bench) -> None:
    """A quarter of the rows comes from earlier ones; the file counts by its content."""
    file = old(bench.shop.folder)
    version = bench.curate(rows(), keep=16, replay=[{"source": "old.jsonl", "share": 0.25}])
    kept = Counter(r.id.startswith("old") for r in version.read("kept"))
    assert kept == {False: 12, True: 4}
    assert [t.step for t in version.manifest.ledger] == ["dedup", "cluster", "replay 1: herding"]
    assert sum(t.kept for t in version.manifest.ledger[1:]) == 16
    assert version.manifest.figures["shares"]["from"]["replay 1"] == [pytest.approx(40 / 88, abs=1e-4), 0.25]
    fingerprint = version.manifest.fingerprint
    file.write_bytes(file.read_bytes().replace(b"boat", b"moon"))
    assert (
        bench.curate(rows(), keep=16, replay=[{"source": "old.jsonl", "share": 0.25}]).manifest.fingerprint
        != fingerprint
    )


def test_replay_of_few(bench: Bench) -> None:
    """What a small buffer cannot fill goes to new rows; a row of both counts as new."""
    old(bench.shop.folder, 2)
    both = rows()[0]
    (bench.shop.folder / "old.jsonl").open("ab").write(both.line())
    version = bench.curate(rows(), keep=16, replay=[{"source": "old.jsonl", "share": 0.25}])
    assert len(ids(version)) == 16 and sum(name.startswith("old") for name in ids(version)) == 2
    assert version.manifest.ledger[-1].came == 2


def test_replay_of_a_version(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run by its name, or a version's folder; something else is refused."""
    monkeypatch.setenv("PIPELINE_RUNS", str(bench.shop.folder / "runs"))
    before = bench.curate(rows())
    fresh = [r.model_copy(update={"id": f"new-{r.id}"}) for r in rows()]
    for source in ("tiny", str(before.path)):
        version = bench.curate(fresh, keep=10, dedup=None, replay=[{"source": source, "share": 0.2}])
        assert sum(name in ids(before) for name in ids(version)) == 2
    with pytest.raises(UsageError, match="nowhere is no run with a curate version"):
        bench.curate(rows(), replay=[{"source": "nowhere"}])


def test_sweep(bench: Bench) -> None:
    """More records cover more; nothing is written but vectors."""
    bench.curate(rows())
    versions = len(bench.shop.run.versions("curate"))
    plan, options = load(bench.shop.path), flow.Options(input=str(bench.file))
    found = sweep.sweep(plan, bench.shop.run, [4, 16, 99], options)
    assert [(size.keep, size.kept) for size in found] == [(4, 4), (16, 16), (99, 40)]
    cover = [size.comparison.figures["coverage_mean"].chosen for size in found]
    assert all(a is not None and b is not None and a > b for a, b in itertools.pairwise(cover))
    assert len(bench.shop.run.versions("curate")) == versions
    assert not list(bench.shop.run.path.glob("sweep-*"))


def test_the_command(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run prints its figures, topics and shares; a sweep prints a table, or JSON."""
    monkeypatch.setenv("PIPELINE_RUNS", str(bench.shop.folder / "runs"))
    bench.curate(rows())
    given = ["curate", str(bench.shop.path), "--input", str(bench.file)]

    def said(*options: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["pipeline", *given, *options])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capsys.readouterr()

    _, talk = said("--again")
    for words in ("8 chosen, beside 20 random choices", "self-BLEU", "Topics", "Shares", "Farthest", "map.svg"):
        assert words in talk
    table, _ = said("--sweep", "4,16")
    assert "gained per 100" in table and re.search(r"^ *16 ", table, re.MULTILINE)
    data, _ = said("--sweep", "4,16", "--json")
    assert [size["kept"] for size in json.loads(data)] == [4, 16]


@pytest.mark.parametrize("text", ["", "a", "10,-3", "0"])
def test_wrong_sizes(text: str) -> None:
    """One message."""
    with pytest.raises(UsageError, match="sizes with commas between"):
        sweep.sizes(text)
    assert sweep.sizes("500, 250,500") == [250, 500]
