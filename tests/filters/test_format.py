"""Format: JSON, schemas, patterns, whole code and maths, and final answers."""

import json
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from filters.format import Format
from tests.filters.good_rows import alpaca_rows, chats_ko, documents, solutions, stories
from tests.helpers import record

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("```python\nprint((1)\n```", "unbalanced_code"),
        ("```js\nf(() => { g(); )\n```", "unbalanced_code"),
        ("```c\nint main() { return 0; }}\n```", "unbalanced_code"),
        ("```\nnot closed", "unclosed_fence"),
        ("\\[ x = 2", "unbalanced_maths"),
        ("Since \\( x \\) and \\( y ] hold", "unbalanced_maths"),
        ("\\begin{align} x \\end{aligned}", "unbalanced_maths"),
        ("$$ x = 1 $$ and $$ y", "unbalanced_maths"),
    ],
)
def test_what_stays_open_is_found(text: str, reason: str) -> None:
    """Fences, brackets in code, LaTeX delimiters and environments; without any setting."""
    check = Format().judge(record(text))
    assert (check.passed, check.reason) == (False, reason) and check.value >= 1 and check.detail


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint('(', \")\")  # :-(\n```",
        "```python\nx = [1, 2, ...\n```",
        "```bash\ncase $x in a) ls;; esac\n```",
        "```js\nconst smile = /:\\)/; const s = `${f(1)}`;\n```",
        "```rust\nfn f<'a>(x: &'a str) -> char { '(' }\n```",
        "It costs $5, or $10 :-)",
        "\\[ [0, 1) \\] and \\(x\\), $$y$$, \\begin{cases} 1 \\\\ 2 \\end{cases}",
        "Write `\\[` to open and \\\\ to break.",
        "He paid $$$ for it.",
        "",
    ],
)
def test_what_only_looks_open_passes(text: str) -> None:
    """Brackets in strings, comments and shell cases, intervals, faces, money, code that is left out."""
    check = Format().judge(record(text))
    assert check.passed and check.value == 0, check


def test_json_may_be_bare_or_in_its_block() -> None:
    """One code block is looked into; prose is no JSON."""
    rule = Format(parses="json")
    assert rule.judge(record('{"age": 3}')).passed
    assert rule.judge(record('Here you are:\n```json\n{"age": 3}\n```')).passed
    check = rule.judge(record("{'age': 3}"))
    assert check.reason == "not_json" and "{'age'" in check.detail


def test_a_schema_is_matched_wherever_it_stands(tmp_path: Path) -> None:
    """In the plan or in a file; the detail says which part does not match."""
    file = tmp_path / "person.json"
    file.write_text(json.dumps(SCHEMA))
    for schema in (SCHEMA, file):
        rule = Format.model_validate({"json_schema": schema})
        assert rule.judge(record('{"age": 3}')).passed
        assert rule.judge(record('{"age": "3"}')).detail.startswith("$.age: ")
        assert rule.judge(record("{}")).reason == "schema_mismatch"
        assert rule.judge(record("three")).reason == "not_json"


def test_a_pattern_is_searched() -> None:
    """Lines may be anchored."""
    rule = Format(pattern=r"^Answer: \d+$")
    assert rule.judge(record("I think.\nAnswer: 42")).passed
    assert rule.judge(record("Answer: none")).reason == "pattern_mismatch"


def test_a_pattern_that_runs_away_is_stopped() -> None:
    """It drops the row within its time instead of hanging the run."""
    began = time.monotonic()
    check = Format(pattern=r"^(a|aa)+$", pattern_seconds=0.05).judge(record("a" * 60 + "b"))
    assert check.reason == "pattern_timeout" and time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pattern": "(unclosed"}, "no regular expression"),
        ({"json_schema": {"type": "objekt"}}, "no JSON Schema"),
        ({"json_schema": "missing.json"}, "no such file"),
        ({"json_schema": {"$ref": "https://example.org/s.json"}}, "refers to 'https://example.org/s.json'"),
        ({"json_schema": {"items": {"$ref": "#/$defs/no"}}}, "refers to '#/\\$defs/no'"),
        ({"final": "number", "on": "both"}, "final compares answers"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], words: str) -> None:
    """Before anything runs, in words."""
    with pytest.raises(ValidationError, match=words):
        Format.model_validate(settings)


def test_a_schema_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValidationError, match=r"bad\.json is not JSON"):
        Format.model_validate({"json_schema": tmp_path / "bad.json"})


def test_final_answers_are_verified() -> None:
    """1 for the gold answer, 0 for another, for none, and where there is no gold answer; the detail shows both."""
    rule = Format(final="number", gold_field="gold")
    assert rule.judge(record("6 x 7 = 42", meta={"gold": "#### 42"})).value == 1
    wrong = rule.judge(record("It is 41.", meta={"gold": 42}))
    assert (wrong.reason, wrong.detail, wrong.value) == ("wrong_answer", "it said 41, the gold answer is 42", 0)
    assert rule.judge(record("I do not know.", meta={"gold": 42})).detail.startswith("it holds no number")
    assert rule.judge(record("42")).reason == "no_gold_answer"


def test_gsm8k_is_told_right_from_wrong() -> None:
    """Each solution confirms its own gold answer; next to its neighbour's 1 in 20 agree, by chance."""
    rows = solutions()[:1000]
    rule = Format(final="number")
    golds = [row.answer.rpartition("####")[2].strip() for row in rows]
    assert all(rule.judge(record(r.answer, meta={"answer": g})).passed for r, g in zip(rows, golds, strict=True))
    others = [rule.judge(record(r.answer, meta={"answer": g})) for r, g in zip(rows, golds[1:], strict=False)]
    assert sum(check.passed for check in others) / len(others) <= 0.05
    assert {check.reason for check in others} == {"", "wrong_answer"}


def test_good_rows_pass() -> None:
    """No answer and no story is dropped; of 250 pages of documents at most 7, all with brackets open in a block."""
    rows = [*stories("stories_ko"), *stories("stories_en"), *chats_ko(), *alpaca_rows(), *solutions()]
    assert [row for row in rows if not Format().judge(record(row.answer)).passed] == []
    folders = ("docs_vue_ko", "docs_react_ko", "docs_hf_course", "docs_prompt_guide", "docs_transformers_ko")
    checks = [Format().judge(record(page.answer)) for folder in folders for page in documents(folder)]
    lost = [check for check in checks if not check.passed]
    assert len(lost) <= 7 and {check.reason for check in lost} == {"unbalanced_code"}
