"""Review: a sample that stands for every fate of a row, blind to whoever marks it, and read back as gold."""

import csv
import itertools
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.errors import UsageError
from pipeline.store import Version
from stages import gold as golds
from stages.filter import FilterStage
from stages.review import Picked, draw, read_back, write
from tests.helpers import opens_scripted, write_plan
from tests.stages.conftest import Workshop

ROWS = 300


def score(n: int) -> float:
    """What the judge makes of a row: from 1 to 5, in even steps."""
    return 1 + 4 * n / ROWS


def verdict(request: Request) -> Completion:
    """That score as log-probabilities of 1 and 5."""
    share = (score(int(re.findall(r"number (\d+)", request.messages[-1].content)[0])) - 1) / 4
    logprobs = {"1": math.log(1 - share), "5": math.log(share + 1e-12)}
    return Completion(text="5", logprobs=logprobs, finish_reason="stop", completion_tokens=1)


class Reviewed:
    """A filter version over 300 rows: every tenth has a banned word, a quarter scores under 2."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        file = workshop.folder / "rows.jsonl"
        rows = [{"prompt": f"Q{n}", "completion": self.text(n)} for n in range(ROWS)]
        file.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        rules = [{"kind": "words", "banned": ["robot"]},
                 {"kind": "judge", "prompt": workshop.rubric("r"), "min_score": 2}]  # fmt: skip
        write_plan(workshop.folder, filter={"rules": rules})
        (self.version,) = workshop.make("filter", input=str(file))
        stage = workshop.plan().stage("filter")
        assert isinstance(stage, FilterStage)
        self.stage = stage

    @staticmethod
    def text(n: int) -> str:
        """One begins like a formula, one has a banned word, the rest are plain."""
        first = "robot" if n % 10 == 1 else "=HYPERLINK(1)" if n % 7 == 0 else "A fox"
        return f"{first} ran home, number {n}"

    def picked(self, n: int = 60) -> list[Picked]:
        """A sample."""
        return draw(self.stage, self.version, n, 3)


@pytest.fixture
def reviewed(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Reviewed:
    """A plan with a filter version."""
    monkeypatch.setattr(Replay, "open", opens_scripted(verdict))
    return Reviewed(workshop)


def test_every_fate_is_in_the_sample(reviewed: Reviewed) -> None:
    """A third kept, a third dropped with the reasons alike, a third near a threshold; no row twice."""
    picked = reviewed.picked()
    assert len({one.record.id for one in picked}) == 60
    strata = Counter(one.stratum for one in picked)
    assert strata["kept"] == 20
    assert strata["dropped: judge: low_score"] + strata["dropped: words: banned_word"] == 20
    assert min(strata["dropped: judge: low_score"], strata["dropped: words: banned_word"]) >= 8
    near = {name: n for name, n in strata.items() if name.startswith("near: ")}
    assert sum(near.values()) == 20
    assert {"near: judge.min_score: kept", "near: judge.min_score: dropped"} <= near.keys()
    assert all(one.record.dropped == ("dropped" in one.stratum) for one in picked)


def test_near_is_near(reviewed: Reviewed) -> None:
    """Rows beside a threshold are the closest there are on their side of it."""
    picked = reviewed.picked()
    for fate, side in (("kept", 1), ("dropped", -1)):
        near = [p.record.scored("judge") or 0 for p in picked if p.stratum == f"near: judge.min_score: {fate}"]
        assert near and all(0 <= side * (value - 2) < 0.3 for value in near)


def test_a_draw_follows_from_the_seed(reviewed: Reviewed) -> None:
    """The same again, another one under another seed; more rows than there are gives all."""
    assert reviewed.picked() == reviewed.picked()
    assert {p.record.id for p in reviewed.picked()} != {
        p.record.id for p in draw(reviewed.stage, reviewed.version, 60, 4)
    }
    assert len(reviewed.picked(10 * ROWS)) == ROWS


def files(reviewed: Reviewed, n: int = 60) -> tuple[Path, Path]:
    """The sample as files."""
    comma, lines = write(reviewed.picked(n), reviewed.workshop.run, reviewed.version, None)
    return comma, lines


def table(file: Path) -> list[dict[str, str]]:
    """What a spreadsheet sees."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        return list(csv.DictReader(text))


def test_the_file_does_not_say_what_the_filters_think(reviewed: Reviewed) -> None:
    """Neither verdict nor reason nor order tell; both files hold the same rows, with empty cells to fill in."""
    comma, lines = files(reviewed)
    rows = table(comma)
    assert list(rows[0]) == ["id", "sample", "prompt", "answer", "keep", "score", "note"]
    assert not any(row["keep"] + row["score"] + row["note"] for row in rows)
    assert [row["id"] for row in rows] == [orjson.loads(line)["id"] for line in lines.open("rb")]
    text = comma.read_text(encoding="utf-8-sig")
    assert "low_score" not in text and "dropped" not in text and "near" not in text
    fates = [p.record.dropped for p in reviewed.picked()]
    assert sum(a != b for a, b in itertools.pairwise(fates)) > 5


def test_no_cell_is_a_formula(reviewed: Reviewed) -> None:
    """An answer that begins with = arrives with a quote before it, and is known again when it is read."""
    rows = table(files(reviewed)[0])
    quoted = [row for row in rows if row["answer"].startswith("'=")]
    assert quoted
    assert not [row for row in rows if any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())]


def fill(file: Path, mark: Any) -> Path:
    """The file as a person gives it back, under another name."""
    rows = table(file)
    filled = file.with_name("filled.csv")
    with filled.open("w", encoding="utf-8-sig", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | mark(n, row) for n, row in enumerate(rows))
    return filled


def test_marks_are_counted_against_the_filters(reviewed: Reviewed) -> None:
    """People who agree with the judge and mind no banned word: what they would take back shows by its reason."""

    def mark(n: int, row: dict[str, str]) -> dict[str, str]:
        return {"keep": "yes" if "robot" in row["answer"] or score(int(row["answer"].split()[-1])) >= 2 else "no"}

    filled = fill(files(reviewed)[0], mark)
    found = read_back(reviewed.stage, reviewed.workshop.run, filled, None)
    keep = {stratum.stratum: stratum.keep.value for stratum in found.strata}
    assert (keep["kept"], keep["dropped: judge: low_score"], keep["dropped: words: banned_word"]) == (1, 0, 1)
    assert (found.marked, found.unmarked) == (60, 0)
    banned = sum(s.marked for s in found.strata if "banned_word" in s.stratum)
    assert found.agree == pytest.approx(1 - banned / 60)


def test_what_is_read_back_is_gold(reviewed: Reviewed) -> None:
    """The marks come out as rows that calibrate takes, with the run's own records."""
    filled = fill(files(reviewed)[0], lambda n, row: {"score": str(n % 5 + 1)} if n % 2 else {})
    found = read_back(reviewed.stage, reviewed.workshop.run, filled, 3)
    assert (found.marked, found.unmarked) == (30, 30)
    gold = golds.read(found.gold, reviewed.workshop.run)
    assert len(gold.marks) == 30
    ids = {p.record.id for p in reviewed.picked()}
    assert all(mark.record.id in ids and mark.score == int(mark.score or 0) for mark in gold.marks)


def test_jsonl_reads_back_as_well(reviewed: Reviewed) -> None:
    """The other file says the same."""
    _, lines = files(reviewed)
    rows = [orjson.loads(line) | {"keep": True} for line in lines.open("rb")]
    filled = lines.with_name("filled.jsonl")
    filled.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    assert read_back(reviewed.stage, reviewed.workshop.run, filled, None).marked == 60


def test_marks_are_never_overwritten(reviewed: Reviewed, tmp_path: Path) -> None:
    """A second draw of the same sample names the file that is there; --out takes one file of either sort."""
    files(reviewed)
    with pytest.raises(UsageError, match="is there already and may hold marks"):
        files(reviewed)
    args: tuple[list[Picked], Any, Version] = (reviewed.picked(), reviewed.workshop.run, reviewed.version)
    assert write(*args, tmp_path / "mine.csv") == [tmp_path / "mine.csv"]
    with pytest.raises(UsageError, match=r"has to end in \.csv or \.jsonl"):
        write(*args, tmp_path / "mine.xlsx")
    with pytest.raises(UsageError, match="cannot write"):
        write(*args, tmp_path / "mine.csv/inside.csv")


def test_what_cannot_be_read_back_is_named(reviewed: Reviewed) -> None:
    """Marks nobody understands, scores without a bound, a sample of another run."""
    comma = files(reviewed)[0]
    run = reviewed.workshop.run
    with pytest.raises(UsageError, match=r"filled\.csv:2: keep is 'perhaps'"):
        read_back(reviewed.stage, run, fill(comma, lambda n, row: {"keep": "perhaps"}), None)
    judgeless = reviewed.stage.model_copy(update={"rules": reviewed.stage.rules[:1]})
    with pytest.raises(UsageError, match="--good-from"):
        read_back(judgeless, run, fill(comma, lambda n, row: {"score": "4"}), None)
    with pytest.raises(UsageError, match="was not drawn by this run"):
        read_back(reviewed.stage, run, fill(comma, lambda n, row: {"keep": "yes", "sample": "../0"}), None)
    with pytest.raises(UsageError, match="holds no mark"):
        read_back(reviewed.stage, run, fill(comma, lambda n, row: {}), None)
