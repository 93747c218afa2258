"""filter --explain: values, other thresholds, rows on either side."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from rich.cells import cell_len
from rich.console import Console

from filters import AnyFilter
from filters.base import Filter, Rule
from filters.perplexity import Perplexity
from pipeline.cli import app
from pipeline.component import Component, kind_of
from pipeline.records import Check, Record
from stages.explain import Threshold, explain, histogram, kept, others
from stages.filter import FilterStage
from stages.tables import explained
from tests.contract.families import example, of
from tests.helpers import record
from tests.stages.conftest import Workshop

VALUES = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=200).map(sorted)


@given(VALUES, st.floats(-1e6, 1e6, allow_nan=False))
def test_kept_is_what_a_threshold_keeps(values: list[float], threshold: float) -> None:
    """Counts by bisection are the counts by comparison; a row equal to its bound is kept from both sides."""
    assert kept(values, threshold, "min") == sum(v >= threshold for v in values)
    assert kept(values, threshold, "max") == sum(v <= threshold for v in values)


@given(VALUES)
def test_a_histogram_counts_every_row_once(values: list[float]) -> None:
    """Every value lies in one bin, and there is an edge more than there are bins."""
    edges, counts = histogram(values)
    assert sum(counts) == len(values)
    assert len(edges) == len(counts) + 1 and edges == sorted(edges)
    assert (edges[0], edges[-1]) == (values[0], values[-1])


@given(VALUES, st.floats(-1e6, 1e6, allow_nan=False))
def test_other_thresholds_lie_on_both_sides(values: list[float], bound: float) -> None:
    """The one that is set is among them, in order, and few."""
    found = others(values, bound)
    assert bound in found and found == sorted(set(found)) and len(found) <= 7


def test_other_thresholds_move_a_twentieth_of_the_rows() -> None:
    """Where values differ the steps are of 5 % of the rows; where nearly all are the same they are of fewer."""
    assert others([float(n) for n in range(100)], 50) == [35, 40, 45, 50, 55, 60, 65]
    assert others([0.0] * 990 + [n / 100 for n in range(1, 11)], 0.5) == [0.02, 0.05, 0.08, 0.5]
    assert others([7.0] * 100, 7) == [7]


@given(VALUES, st.floats(-1e6, 1e6, allow_nan=False))
def test_a_threshold_is_what_is_shown(values: list[float], bound: float) -> None:
    """Who types a threshold as the table shows it gets the count beside it."""
    found = others(values, bound)
    typed = [float(f"{t:,.0f}".replace(",", "") if abs(t) >= 1000 else f"{t:.4g}") for t in found if t != bound]
    assert typed == [t for t in found if t != bound]


def filtered(workshop: Workshop, *rules: dict[str, object], rows: list[Record] | None = None) -> list[Threshold]:
    """What is explained of a filter version over the rows, or over forty answers of growing length."""
    plan = yaml.safe_load(workshop.path.read_text())
    plan["filter"] = {"rules": list(rules)}
    workshop.path.write_text(yaml.safe_dump(plan))
    rows = rows or [record("long " * n, id=f"r{n:02d}") for n in range(1, 41)]
    (workshop.folder / "rows.jsonl").write_bytes(b"".join(r.line() for r in rows))
    (version,) = workshop.make("filter", input=str(workshop.folder / "rows.jsonl"))
    stage = workshop.plan().stage("filter")
    assert isinstance(stage, FilterStage)
    return explain(stage, version)


def test_every_bound_is_explained(workshop: Workshop) -> None:
    """Both bounds of a rule and those of the next, over the rows that reached them, with the closest rows."""
    low, high, share, _ = filtered(
        workshop, {"kind": "length", "min_chars": 50, "max_chars": 150}, {"kind": "script", "min_share": 0.9}
    )
    assert (low.setting, low.side, low.measured, low.kept) == ("min_chars", "min", 40, 30)
    assert (high.setting, high.side, high.measured, high.kept) == ("max_chars", "max", 40, 30)
    assert (share.rule, share.measured, share.kept) == ("script", 20, 20)
    assert [(s.id, s.value, s.kept) for s in low.samples] == [
        ("r09", 44, False), ("r10", 49, False), ("r11", 54, True), ("r12", 59, True),
    ]  # fmt: skip
    assert {n.threshold: n.kept for n in low.nearby}[50] == 30


def test_the_text_that_was_measured_is_shown(workshop: Workshop) -> None:
    """Rows near a bound on the prompt show the prompt."""
    (found,) = filtered(workshop, {"kind": "length", "on": "prompt", "min_chars": 3}, rows=[record(prompt="Why?")])
    assert [(sample.value, sample.text) for sample in found.samples] == [(4, "Why?")]


def test_all_measures_what_was_dropped(workshop: Workshop) -> None:
    """With `measure: all` the second rule's values cover every row."""
    filtered(workshop, {"kind": "length", "min_chars": 50}, {"kind": "script", "min_share": 0.9})
    (version,) = workshop.make("filter", input=str(workshop.folder / "rows.jsonl"), overrides=("filter.measure=all",))
    stage = workshop.plan().stage("filter")
    assert isinstance(stage, FilterStage)
    assert [(t.setting, t.measured) for t in explain(stage, version)] == [
        ("min_chars", 40), ("min_share", 40), ("max_other", 40),
    ]  # fmt: skip
    assert version.manifest.counts == workshop.run.versions("filter")[0].manifest.counts


WORDS = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(120)]
OPEN: dict[str, dict[str, Any]] = {
    "length": {"min_words": 0, "max_words": 10**6},
    "script": {"script": "Hangul", "min_share": 0, "max_other": 1},
    "gopher": {"max_symbols": 9, "max_ellipsis_lines": 1},
    "repetition": {
        "max_line_share": 1, "max_paragraph_share": 1, "max_loop_share": 1, "max_top": {2: 1, 4: 1},
        "max_duplicate": {5: 1, 10: 1}, "max_character_share": 1, "max_compression": 99, "at_most": {"moon": 99},
    },
    "echo": {"max_share": 1},
}  # fmt: skip
"""Bounds so wide that no planted row is dropped."""
READS = [(kind, on) for kind in OPEN for on in ("answer", "both") if (kind, on) != ("echo", "both")]


def planted() -> list[Record]:
    """Answers with one to twelve copies of a fault of every sort, in two languages."""
    ask = "Explain why the sky is blue at noon and red at night. Be brief."
    rows: list[tuple[str, str]] = []
    for n in range(1, 13):
        text = " ".join(WORDS[:100])
        rows += [
            (ask, f"{text}\n" + "The same line stands here again.\n" * n),
            (ask, "\n\n".join([text, *["A paragraph of some length that comes back."] * n])),
            (ask, text + " and so it goes on and on for ever" * n),
            (ask, " ".join(f"red fox {word}" if i < 4 * n else word for i, word in enumerate(WORDS))),
            (ask, " ".join(WORDS + WORDS[: 6 * n])),
            (ask, "토끼가 달을 보며 깊이 잠들었어요. " * n + "".join(chr(0xAC00 + 7 * i) for i in range(150))),
            (ask, "토끼가 달을 보며 " + "解决" * n + "깊이 잠들었어요. (" + "大" * n + ")"),
            (ask + " 중국어로.", "토끼가 달을 보며 " + "解决" * n + "깊이 잠들었어요."),
            (ask + " 大学?", "토끼가 달을 보며 " + "解决" * n + "깊이 잠들었어요."),
            (ask, f"{text} # ... {'# ' * n}\n" + "- one of a list\n" * n + "and then...\n" * n + "1 and 2 " * n),
            (ask, " ".join(ask.split()[: n - 1]) + f" {text}"),
            (ask, "the moon, " * n),
        ]
    return [record(answer, id=f"r{n:03d}", prompt=prompt) for n, (prompt, answer) in enumerate(rows)]


def with_setting(rule: Filter, setting: str, value: float) -> Filter:
    """The rule with one bound moved, be it to where a plan may not have it."""
    name, _, key = setting.partition(".")
    changed = {**getattr(rule, name), int(key) if key.isdigit() else key: value} if key else value
    return type(rule).model_construct(**dict(rule) | {name: changed})


@pytest.mark.parametrize(("kind", "on"), READS)
def test_what_another_threshold_would_keep_is_what_it_keeps(workshop: Workshop, kind: str, on: str) -> None:
    """A run with each threshold that is offered keeps as many rows as was said, whatever is measured and where."""
    rows = planted()
    settings = {"kind": kind} | OPEN[kind] | ({} if kind == "echo" else {"on": on})
    rule = TypeAdapter[Rule](AnyFilter).validate_python(settings)
    assert isinstance(rule, Filter)
    found = filtered(workshop, json.loads(json.dumps(settings)), rows=rows)
    for threshold in found:
        assert threshold.measured == threshold.kept > 0
        for near in threshold.nearby:
            value = near.threshold or (1e-9 if kind == "echo" else 0)  # it divides by its share
            checks = map(with_setting(rule, threshold.setting, value).judge, rows)
            dropped = sum(not check.passed and check.reason != "copies_prompt" for check in checks)
            assert near.kept == threshold.measured - dropped, (threshold.setting, near)
    moved = {threshold.setting for threshold in found if len({near.kept for near in threshold.nearby}) > 1}
    assert on == "both" or moved == {threshold.setting for threshold in found}


def test_what_does_not_repeat_is_a_share_of_nothing(workshop: Workshop) -> None:
    """A text in which no word pair stands twice counts where n-grams are measured; a shorter one does not."""
    rows = [record(text, id=text[:5]) for text in (" ".join(WORDS), "red fox " * 30, "Short.")]
    found = filtered(workshop, {"kind": "repetition"}, rows=rows)
    assert {t.setting: t.measured for t in found if "." in t.setting} == {
        "max_top.2": 2, "max_top.3": 2, "max_top.4": 2, "max_duplicate.5": 2, "max_duplicate.10": 2,
    }  # fmt: skip
    assert [t.measured for t in found if t.setting == "max_line_share"] == [2]


NO_THRESHOLDS = {("repetition", "min_words"), ("reward", "max_tokens"), ("perplexity", "max_tokens"),
                 ("ifd", "max_tokens")}  # fmt: skip
"""Settings that say what is measured at all, or how much of it."""


@pytest.mark.parametrize("component", of("filter"), ids=kind_of)
def test_no_threshold_is_forgotten(component: type[Component], tmp_path: Path) -> None:
    """Every setting called `min_` or `max_` is among those that a rule says it holds values against."""
    kind = kind_of(component)
    assert issubclass(component, Rule)
    told = {setting for setting, _ in component.bounds}
    if issubclass(component, Filter):
        rule = example(component, tmp_path).model_copy(update={"min_stop_words": 1} if kind == "gopher" else {})
        told |= {one.setting.partition(".")[0] for row in planted() for one in rule.measures(row)}
    settings = {name for name in component.model_fields if name.startswith(("min_", "max_"))}
    assert {(kind, name) for name in settings - told} <= NO_THRESHOLDS


def test_rows_that_an_exception_let_pass_are_left_out(workshop: Workshop) -> None:
    """An answer in the language that the prompt names is under the threshold, and was kept."""
    rabbit = "A rabbit came home and slept all through the night, and the moon looked in at the window."
    rows = [
        record(rabbit, id="a", prompt="영어로 써 줘"),
        record("토끼가 왔어요. 달이 창문으로 들여다보았어요.", id="b"),
    ]
    (share,) = filtered(workshop, {"kind": "language", "want": "ko"}, rows=rows)
    assert (share.setting, share.measured, share.kept) == ("min_share", 1, 1)
    assert workshop.run.versions("filter")[0].manifest.counts["kept"] == 2


def test_rows_without_a_score_are_left_out(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with nothing to measure has no perplexity of 0."""

    def sift(self: Perplexity, records: Iterable[Record], context: object) -> Iterator[Check]:
        return (self._check(2.0 * len(r.answer), len(r.answer)) for r in records)

    monkeypatch.setattr(Perplexity, "sift", sift)
    rule = {"kind": "perplexity", "model": str(workshop.folder / "model"), "max_perplexity": 9}
    (found,) = filtered(workshop, rule, rows=[record("", id="a"), record("said", id="b")])
    assert (found.measured, found.kept) == (1, 1)


@pytest.mark.parametrize("columns", [80, 120])
def test_what_is_printed_fits(workshop: Workshop, columns: int) -> None:
    """No line is longer than the terminal, in Korean and with tags in the text."""
    rows = [record("[bold]가나다[/] " * n, id=f"r{n:02d}") for n in range(1, 60)]
    found = filtered(workshop, {"kind": "length", "min_chars": 50}, {"kind": "repetition"}, rows=rows)
    console = Console(width=columns, record=True)
    for threshold in found:
        console.print(explained(threshold))
    text = console.export_text()
    assert "[bold]가나다" in text and "\u2026" in text
    assert max(cell_len(line) for line in text.splitlines()) <= columns


def test_the_command_tells_it(workshop: Workshop, monkeypatch: object) -> None:
    """`--explain --json` is data on stdout."""
    from typer.testing import CliRunner

    filtered(workshop, {"kind": "length", "min_chars": 50})
    runs = {"PIPELINE_RUNS": str(workshop.folder / "runs")}
    rows = ["filter", str(workshop.path), "--input", str(workshop.folder / "rows.jsonl"), "--explain"]
    told = CliRunner().invoke(app, [*rows, "--json", "--quiet"], env=runs)
    assert told.exit_code == 0, told.output
    (found,) = json.loads(told.stdout)
    assert (found["rule"], found["setting"], found["kept"]) == ("length", "min_chars", 30)
    shown = CliRunner().invoke(app, [*rows, "--quiet"], env=runs)
    assert "length: min_chars 50  keeps 30 of 40 measured" in shown.stdout
