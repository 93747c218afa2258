"""The cheap text rules over real data: what they let pass of good rows, and what they find of planted faults.

Thresholds are what was measured, a little relaxed; each test says the measured figure.
"""

import gzip
import json
import random
from typing import Any

import pytest

from filters.base import Filter
from filters.echo import Echo
from filters.gopher import Gopher
from filters.language import Language
from filters.length import Length
from filters.repetition import Repetition
from filters.script import Script
from filters.words import Words
from tests.filters.good_rows import Row, alpaca_rows, chats_ko, contrasts, role_plays, self_instruct, shared, solutions
from tests.helpers import record

PAPER = Repetition(
    max_line_share=0.2, max_paragraph_share=0.2, min_words=0, max_loop_share=1, max_compression=None,
    max_top={2: 0.2, 3: 0.18, 4: 0.16}, max_duplicate={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
)  # fmt: skip


def english() -> list[Row]:
    """11,000 rows that people wrote or checked, and GPT-4's answers."""
    return [*solutions(), *role_plays(), *alpaca_rows(), *self_instruct(), *contrasts()]


def facts(file: str, name: str, value: str) -> list[dict[str, Any]]:
    """What another library's own tests say of a filter: the rows whose `name` begins with `value`."""
    lines = shared(f"filter_facts/{file}.jsonl").read_text("utf-8").splitlines()
    return [fact for fact in map(json.loads, filter(None, lines)) if fact[name].startswith(value)]


def dropped(rule: Filter, pairs: list[Row]) -> float:
    """Share of pairs that a rule drops."""
    return sum(not rule.judge(record(p.answer, prompt=p.prompt)).passed for p in pairs) / len(pairs)


@pytest.mark.parametrize(
    ("rule", "most"),
    [
        (Repetition(), 0),  # none of 11,121
        (Echo(), 0.0005),  # one, which is an echo
        (Gopher(), 0),
        (Script(script="Latin", min_share=0.9), 0.001),
        (Language(want="en"), 0.0005),  # one: a list of Italian dishes
        (Language(same=True), 0.0005),
    ],
    ids=lambda value: value.label if isinstance(value, Filter) else "",
)
def test_good_english_rows_pass(rule: Filter, most: float) -> None:
    """Human and checked rows are hardly ever dropped by the defaults."""
    assert dropped(rule, english()) <= most


@pytest.mark.parametrize(
    "rule",
    [Repetition(), Echo(), Gopher(), Script(script="Hangul"), Language(want="ko"), Language(same=True)],
    ids=lambda rule: rule.label,
)
def test_good_korean_rows_pass(rule: Filter) -> None:
    """None of 11,823 rows is dropped by the defaults; one in a thousand would fail this test."""
    assert dropped(rule, chats_ko()) <= 0.001


def test_a_program_is_no_repetition() -> None:
    """One of 164 programs was dropped, a chain of 13 like branches."""
    with gzip.open(shared("humaneval/HumanEval.jsonl.gz"), "rt", encoding="utf-8") as file:
        programs = [json.loads(line) for line in file]
    pairs = [Row(f"Complete this:\n{p['prompt']}", p["prompt"] + p["canonical_solution"]) for p in programs]
    assert dropped(Repetition(), pairs) <= 0.01
    assert dropped(Echo(), pairs) == 0


def test_loops_are_found() -> None:
    """Of answers that go on with their last sentence until 300 words are full, all were found in both languages."""
    drawn = random.Random(0)
    for pairs in (english(), chats_ko()):
        lost = 0
        sample = drawn.sample([p for p in pairs if len(p.answer) > 20], 500)
        for pair in sample:
            unit = f" {pair.answer.rsplit('. ', 1)[-1][-200:]}"
            looped = (pair.answer + unit * 60)[: 1500 + drawn.randrange(50)]
            lost += Repetition().judge(record(looped)).passed
        assert lost / len(sample) <= 0.01


def test_echoes_are_found() -> None:
    """Of answers behind a copy of their question, all questions of 20 characters in Korean, 95 % of English prompts."""
    for pairs, least in ((english(), 0.9), (chats_ko(), 0.97)):
        long = [p for p in random.Random(0).sample(pairs, 2000) if len(p.prompt) >= 25]
        copied = [Row(p.prompt, f"{p.prompt}\n\n{p.answer}") for p in long]
        assert dropped(Echo(), copied) >= least


def test_slips_into_another_script_are_found() -> None:
    """One Chinese, Japanese or Russian word in a Korean answer is found each time."""
    drawn = random.Random(0)
    for pair in drawn.sample(chats_ko(), 500):
        words = pair.answer.split()
        words.insert(drawn.randrange(len(words) + 1), drawn.choice(["解决", "とても", "очень"]))
        assert not Script(script="Hangul", min_share=0.3).judge(record(" ".join(words))).passed


@pytest.mark.parametrize(
    ("file", "code", "wrong", "unknown"),
    [("kor-eng.kor", "ko", 0, 0.01), ("jpn-eng.jpn", "ja", 0, 0.01), ("kor-eng.eng", "en", 0.002, 0.6)],
)
def test_languages_of_sentences(file: str, code: str, wrong: float, unknown: float) -> None:
    """Of 1,000 sentences each 0, 0 and 0 were taken for another language; 2, 5 and 533 (short English) not told."""
    sentences = shared(f"tatoeba/tatoeba.{file}").read_text(encoding="utf-8").splitlines()
    checks = [Language(want=code).judge(record(s)) for s in sentences]
    assert sum(not c.passed for c in checks) / len(checks) <= wrong
    assert sum("unknown" in c.detail for c in checks) / len(checks) <= unknown


def test_answers_in_another_language_are_found() -> None:
    """An English answer to a Korean question, and the other way about, is found wherever it can be told."""
    answers = [p for p in random.Random(0).sample(english(), 300) if len(p.answer) > 120]
    questions = [p for p in random.Random(1).sample(chats_ko(), len(answers)) if len(p.prompt) > 8]
    crossed = [Row(q.prompt, a.answer) for q, a in zip(questions, answers, strict=False)]
    assert dropped(Language(same=True), crossed) >= 0.95
    assert dropped(Language(want="ko"), crossed) >= 0.97


def test_repetition_agrees_with_datatrove() -> None:
    """Every fact of datatrove's own tests holds under Gopher's bounds."""
    said = facts("datatrove", "filter", "gopher_repetition")
    assert len(said) == 7
    assert [PAPER.judge(record(f["text"])).passed for f in said] == [f["expected"] for f in said]


def test_quality_agrees_with_datatrove() -> None:
    """Every fact holds; hashes and ellipses are one measure here, so reasons are fewer."""
    rule = Gopher(min_words=10, max_words=1000, min_mean_chars=3, max_mean_chars=10, max_symbols=0.1,
                  min_alphabetic=0.8, min_stop_words=2)  # fmt: skip
    said = facts("datatrove", "filter", "gopher_quality")
    assert len(said) >= 7
    assert [rule.judge(record(f["text"])).passed for f in said] == [f["expected"] for f in said]


def test_languages_agree_with_datatrove() -> None:
    """The language of each of its sentences is told."""
    said = facts("datatrove", "filter", "language")
    assert said
    assert all(Language(want=f["expected"]).judge(record(f["text"])).value > 0.9 for f in said)


def test_length_agrees_with_data_juicer() -> None:
    """Its facts on characters hold, and those on words but where it counts marks between spaces as words."""
    chars = facts("datajuicer", "op", "TextLengthFilter")
    assert chars
    for fact in chars:
        rule = Length(min_chars=fact["params"]["min_len"], max_chars=fact["params"]["max_len"])
        assert rule.judge(record(fact["row"]["text"])).passed == fact["kept"], fact


@pytest.mark.parametrize("language", ["ko", "en"])
def test_word_lists_find_their_words(language: str) -> None:
    """Every word of a real list is found in a sentence, with a particle in Korean, and few good rows hold one."""
    file = shared(f"ldnoobw/{language}")
    rule = Words(banned_file=file)
    listed = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    frame = "그는 {}라고 말했다." if language == "ko" else "He said {}, and left."
    assert all(not rule.judge(record(frame.format(word))).passed for word in listed)
    good = chats_ko() if language == "ko" else [p for p in english() if "kill" not in p.prompt]
    assert dropped(rule, good) <= 0.02
