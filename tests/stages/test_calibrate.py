"""Calibrate: a judge that knows looks good, one of length looks like length, one that follows the place flips."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from filters.length import Length
from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.errors import UsageError
from pipeline.run import Run
from stages import gold as golds
from stages.calibrate import Calibration, Options, calibrate
from tests.helpers import opens_scripted, write_plan
from tests.stages.conftest import Workshop

DATA = Path(__file__).resolve().parents[3] / "shared/data"
Said = Callable[[str], float]


def answer_in(request: Request) -> str:
    (found,) = re.findall(r"<x-\w+>(.*)</x-", request.messages[-1].content, re.DOTALL)
    return str(found)


class Bench:
    """A plan with one judge whose model says what a function makes of the answer, and gold rows beside it."""

    def __init__(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workshop, self.monkeypatch = workshop, monkeypatch
        self.asked: list[Request] = []

    def judge(self, said: Said | None = None, pair: Callable[[str, str], str] | None = None, **settings: Any) -> None:
        """The plan's rule, and what its model answers."""

        def script(request: Request) -> Completion:
            self.asked.append(request)
            if pair is not None:
                a, b = re.findall(r"<answer-[ab]-\w+>\n(.*?)\n</answer", request.messages[-1].content, re.DOTALL)
                return Completion(text=pair(a, b), finish_reason="stop", completion_tokens=1)
            assert said is not None
            number = said(answer_in(request))
            text = str(min(5, max(1, round(number)))) if number == number else "?"
            return Completion(text=text, finish_reason="stop", completion_tokens=1)

        rule = {"kind": "pairwise"} if pair else {"kind": "judge", "prompt": self.workshop.rubric("r")}
        write_plan(self.workshop.folder, filter={"rules": [{"kind": "length"}, rule | settings]})
        self.monkeypatch.setattr(Replay, "open", opens_scripted(script))

    def against(self, rows: list[dict[str, Any]], **options: Any) -> Calibration:
        """The calibration of that rule."""
        file = self.workshop.folder / "gold.jsonl"
        file.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        gold = golds.read(file, self.workshop.run)
        (found,) = calibrate(self.workshop.plan(), self.workshop.run, gold, Options(**options))
        return found


@pytest.fixture
def bench(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A plan folder with a scripted judge."""
    return Bench(workshop, monkeypatch)


def figures(found: Calibration) -> dict[str, float | None]:
    return {figure.name: figure.value for figure in found.figures}


def scored(count: int = 60, per_prompt: int = 1) -> list[dict[str, Any]]:
    """Answers that carry their worth from 1 to 5, of lengths that have nothing to do with it."""
    chance = random.Random(0)
    return [{"prompt": f"Q{n // per_prompt}", "score": (worth := 1 + n % 5),
             "answer": f"worth {worth} no {n} " + "x" * chance.randrange(300)} for n in range(count)]  # fmt: skip


def worth(answer: str) -> float:
    return float(answer.split()[1])


def test_a_judge_that_knows(bench: Bench) -> None:
    """Rank, kappa, precision and recall are perfect, and far from what length gives; nothing warns."""
    bench.judge(worth, min_score=4)
    found = bench.against(scored())
    values = figures(found)
    for name in ("spearman", "kappa", "precision", "recall", "repeat_agreement"):
        assert values[name] == pytest.approx(1), name
    assert abs(values["length_spearman"] or 0) < 0.3
    assert (values["threshold_min_score"], values["threshold_rows"]) == (4, 24)
    assert (found.gold, found.rows, found.unmeasured, found.notes[1:]) == ("scores", 60, {}, [])
    assert "judges its own answers" in found.notes[0]
    spearman = next(f for f in found.figures if f.name == "spearman_over_length")
    assert (spearman.low or 0) > 0.5


def test_a_judge_of_length(bench: Bench) -> None:
    """Scores that are the length's: it says so, in figures and in words."""
    bench.judge(lambda answer: 1 + len(answer) / 80)
    values = figures(found := bench.against(scored()))
    assert (values["spearman_with_length"] or 0) > 0.9
    assert abs(values["spearman"] or 0) < 0.3
    assert any(note.startswith("no better than answer length") for note in found.notes)
    assert "threshold_min_score" not in values
    assert any("no min_score reaches" in note for note in found.notes)


def test_a_judge_that_always_says_the_same(bench: Bench) -> None:
    """Saturation and ties, no correlation, and a note."""
    bench.judge(lambda answer: 4)
    values = figures(found := bench.against(scored(per_prompt=5)))
    assert (values["saturation"], values["pair_ties"], values["pair_accuracy"], values["spearman"]) == (1, 1, 0.5, None)
    assert any("round to one number" in note for note in found.notes)


def test_answers_to_one_prompt_are_compared(bench: Bench) -> None:
    """Scores of several answers to a prompt are preferences, too; equal ones are none."""
    bench.judge(worth)
    assert figures(bench.against(scored(per_prompt=5)))["pair_accuracy"] == 1


def test_preferences_and_a_pointwise_judge(bench: Bench) -> None:
    """The chosen answer should score higher; a tie is half right."""
    bench.judge(worth)
    rows = [{"prompt": f"Q{n}", "chosen": f"worth {4 if n < 15 else 2} {n}", "rejected": f"worth 2 no {n}"}
            for n in range(20)]  # fmt: skip
    found = bench.against(rows)
    values = figures(found)
    assert (found.gold, found.rows) == ("preferences", 20)
    assert (values["pair_accuracy"], values["pair_ties"]) == (0.875, 0.25)
    assert values["length_pair_accuracy"] == 1
    assert any("20 gold rows say little" in note for note in found.notes)


def test_unreadable_verdicts_are_counted_apart(bench: Bench) -> None:
    """A row without a verdict is no row of score 0."""
    bench.judge(lambda answer: float("nan") if " no 7 " in answer else worth(answer), retries=1)
    found = bench.against(scored(), repeats=0)
    assert (found.rows, found.unmeasured) == (59, {"unreadable_verdict": 1})
    assert figures(found)["spearman"] == pytest.approx(1)


def test_a_pairwise_judge_that_knows(bench: Bench) -> None:
    """Right in both orders: no flip, no tie."""
    bench.judge(pair=lambda a, b: "A" if worth(a) > worth(b) else "B")
    values = figures(bench.against(scored(per_prompt=5)))
    assert (values["pair_accuracy"], values["swap_flips"], values["first_preferred"]) == (1, 0, 0.5)
    assert values["repeat_agreement"] == 1


def test_a_pairwise_judge_that_follows_the_place(bench: Bench) -> None:
    """Every verdict flips with the order: all ties, and a note."""
    bench.judge(pair=lambda a, b: "A")
    found = bench.against([{"prompt": f"Q{n}", "chosen": "one", "rejected": "other"} for n in range(60)])
    values = figures(found)
    assert (values["swap_flips"], values["first_preferred"], values["pair_accuracy"]) == (1, 1, 0.5)
    assert any("follow the place" in note for note in found.notes)


def test_a_pairwise_judge_needs_preferences(bench: Bench) -> None:
    """One score a prompt compares nothing."""
    bench.judge(pair=lambda a, b: "A")
    with pytest.raises(UsageError, match="the gold prefers none"):
        bench.against(scored())


def test_a_second_look_asks_nothing(bench: Bench) -> None:
    """Everything went through the memo; another threshold and another target cost no tokens."""
    bench.judge(worth, min_score=4)
    bench.against(scored())
    first = len(bench.asked)
    assert first == 2 * 60  # once, and once more for repeat agreement
    bench.judge(worth, min_score=2)
    values = figures(bench.against(scored(), precision=0.5, good_from=5))
    assert len(bench.asked) == first
    assert values["threshold_min_score"] == 4


def test_yes_and_no_are_gold(bench: Bench) -> None:
    """Marks of a review have no scale: yes is good."""
    bench.judge(worth, min_score=4)
    rows = [row | {"keep": "yes" if row["score"] >= 4 else "no", "score": None} for row in scored()]
    assert figures(bench.against(rows))["kappa"] == pytest.approx(1)


def test_gold_on_another_scale_needs_a_bound(bench: Bench) -> None:
    """Of 100 points the judge's min_score says nothing: no kappa, and what to add."""
    bench.judge(worth)
    rows = [row | {"score": 20 * row["score"]} for row in scored()]
    found = bench.against(rows)
    assert "kappa" not in figures(found)
    assert any("--good-from" in note for note in found.notes)
    assert "kappa" in figures(bench.against(rows, good_from=60))


def test_any_rule_can_be_measured(bench: Bench) -> None:
    """Length itself against the gold: what every judge is held against."""
    bench.judge(worth)
    found = bench.against(scored(), rule="length")
    values = figures(found)
    assert values["spearman"] == pytest.approx(values["length_spearman"])
    assert bench.asked == []
    with pytest.raises(UsageError, match=r"no rule of the plan is called 'lenght'; did you mean length\?"):
        bench.against(scored(), rule="lenght")


def prometheus() -> list[dict[str, Any]]:
    """Vicuna questions with answers of four models, scored from 1 to 5 three times; the median counts."""
    file = DATA / "prometheus/vicuna_eval.json"
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    rows = []
    for row in json.loads(file.read_text(encoding="utf-8")):
        _, asked = row["instruction"].split("###The instruction to evaluate:\n", 1)
        prompt, rest = asked.split("\n\n###Response to evaluate:\n", 1)
        answer = rest.split("\n\n###Reference Answer", 1)[0]
        rows.append({"prompt": prompt, "answer": answer, "score": sorted(row["gpt4_score"])[1]})
    return rows


def test_what_length_alone_is_worth_on_real_scores(bench: Bench) -> None:
    """320 scored answers: length agrees with the scores to a small degree, and does not pass for a judge."""
    bench.judge(worth)
    values = figures(found := bench.against(prometheus(), rule="length", good_from=4))
    assert found.rows == 320
    assert 0 < (values["spearman"] or 0) < 0.5
    assert values["spearman_over_length"] == pytest.approx(0, abs=1e-3)  # the rule does not count white space
    assert any(note.startswith("no better than answer length") for note in found.notes)


def test_real_preferences_are_read(tmp_path: Path) -> None:
    """1,100 rows of instruction, chosen and rejected; a tenth of a second, no model."""
    file = DATA / "rasbt_instruction/instruction-data-with-preference.json"
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    rows = json.loads(file.read_text(encoding="utf-8"))
    lines = tmp_path / "gold.jsonl"
    lines.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    gold = golds.read(lines, Run(tmp_path))
    assert len(gold.preferences) == len(rows) == 1100
    checks = [Length(min_chars=1).judge(pair.chosen) for pair in gold.preferences]
    assert all(check.passed for check in checks)
