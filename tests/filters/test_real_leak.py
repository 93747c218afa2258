"""Leaks in real data: items of real benchmarks hidden in rows of real instruction sets."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from filters.leak import Leak
from filters.overlap import References
from filters.references import items
from pipeline.models import models_home
from tests.filters.test_real_duplicates import lines, path
from tests.helpers import Nobody, record

SETS = ("gsm8k/test.jsonl", "ifeval/input_data.jsonl", "mt_bench/question.jsonl", "humaneval/HumanEval.jsonl.gz")
MAX_SHARE: float = Leak.model_fields["max_share"].default
REPHRASED = {
    (
        "gsm8k/test.jsonl",
        2,
    ): "To make a robe you need 2 bolts of fiber in blue, and of white fiber half as much. What is "
    "the total number of bolts?",
    (
        "gsm8k/test.jsonl",
        3,
    ): "For $80,000 Josh buys a house that he wants to flip, and then spends $50,000 on repairing "
    "it, which raises its value by 150%. What profit does he make?",
    (
        "gsm8k/test.jsonl",
        4,
    ): "James does three sprints of 60 meters each time, three times every week. What is the total "
    "distance in meters that he sprints weekly?",
    ("gsm8k/test.jsonl", 7): "There are twice as many sheep in Toulouse as in Charleston, and Charleston's number is 4 "
    "times Seattle's. Given that Seattle's sheep number 20, how many are there in the three cities together?",
    (
        "gsm8k/test.jsonl",
        10,
    ): "The first 40 hours Eliza works in a week are paid at $10 an hour; overtime pays 1.2 times "
    "her regular rate. She worked 45 hours this week. What does she earn for it?",
    (
        "mt_bench/question.jsonl",
        1,
    ): "Write a lively post for a travel blog on a trip you just took to Hawaii; bring out "
    "the culture you met and the sights nobody should miss.",
}


@pytest.fixture(scope="module")
def index() -> References:
    """All four sets at the rule's defaults."""
    rule = Leak(references=tuple(map(path, SETS)))
    return References((items(file) for file in rule.references), rule.n, rule.boilerplate)


@pytest.fixture(scope="module")
def planted() -> list[str]:
    """Items of four sorts: arithmetic, instructions with constraints, open questions, code."""
    code = gzip.decompress(path("humaneval/HumanEval.jsonl.gz").read_bytes()).decode().splitlines()
    return [
        *(row["question"] for row in lines("gsm8k/test.jsonl")[:200]),
        *(row["prompt"] for row in lines("ifeval/input_data.jsonl")[:100]),
        *(row["turns"][0] for row in lines("mt_bench/question.jsonl")),
        *(json.loads(row)["prompt"] for row in code),
    ]


def share_found(index: References, texts: list[str]) -> float:
    found = index.overlaps(texts)
    return sum(overlap.share > MAX_SHARE for overlap in found) / len(texts)


def part(text: str, share: float) -> str:
    """So much of the text's words, in a row."""
    words = text.split(" ")
    size = max(1, round(share * len(words)))
    start = random.Random(text).randrange(len(words) - size + 1)
    return " ".join(words[start : start + size])


def edited(text: str, share: float) -> str:
    """The text with this share of its words replaced."""
    words = text.split(" ")
    for place in random.Random(text).sample(range(len(words)), max(1, round(share * len(words)))):
        words[place] = "really"
    return " ".join(words)


@pytest.mark.parametrize(
    ("how", "least"),
    [
        (lambda t: t, 1.0),
        (lambda t: f"**Question:** {' '.join(t.split()).lower().replace('. ', '.' + chr(10) * 2 + '- ')}", 1.0),
        (lambda t: part(t, 0.7), 0.98),
        (lambda t: part(t, 0.5), 0.96),
        (lambda t: edited(t, 0.05), 0.98),
        (lambda t: edited(t, 0.1), 0.95),
    ],
    ids=["verbatim", "reformatted", "70 %", "50 %", "5 % edited", "10 % edited"],
)
def test_planted_items_are_found(
    index: References, planted: list[str], how: Callable[[str], str], least: float
) -> None:
    """Measured: 1.000, 1.000, .997, .978, .994 and .978 of 694 items."""
    assert share_found(index, list(map(how, planted))) >= least


def test_rows_of_other_sets_pass(index: References) -> None:
    """Of 1,525 seed tasks, instructions and human prompts none; of 1,923 role-plays 15, which open as an item does."""
    seeds = [f"{t['instruction']} {t['instances'][0]['input']}" for t in lines("self_instruct/seed_tasks.jsonl")]
    given = json.loads(path("rasbt_instruction/instruction-data.json").read_text(encoding="utf-8"))
    prompts = [str(row) for row in lines("openassistant/prompt_lottery_en_250_text.jsonl")]
    assert (
        share_found(index, [*seeds, *(f"{r['instruction']} {r['input']} {r['output']}" for r in given), *prompts]) == 0
    )
    plays = json.loads(path("gpteacher/roleplay-simple-deduped-roleplay-instruct.json").read_text(encoding="utf-8"))
    assert share_found(index, [f"{r['instruction']} {r['response']}" for r in plays]) <= 0.01


def test_the_training_half_of_a_benchmark_passes(index: References) -> None:
    """GSM8K's own training questions, of the same writers, are not taken for its test questions: 14 of 7,473 were."""
    assert share_found(index, [row["question"] for row in lines("gsm8k/train.jsonl")]) <= 0.004


@pytest.mark.e2e
@pytest.mark.skipif(not (models_home() / "all-minilm-l6-v2/config.json").is_file(), reason="`make models` was not run")
def test_rephrased_items_are_found_by_embedding(tmp_path: Path) -> None:
    """Items in other words: none by runs of words, all by embedding, and no other question of the same kind is."""
    some = tmp_path / "some.jsonl"
    rows = [*lines("gsm8k/test.jsonl")[:60], *lines("mt_bench/question.jsonl")[:20]]
    some.write_text("\n".join(json.dumps({"q": r.get("question") or r["turns"][0]}) for r in rows))
    strangers = [row["question"] for row in lines("gsm8k/train.jsonl")[:80]]
    asked = [record("Yes.", id=str(n), prompt=text) for n, text in enumerate([*REPHRASED.values(), *strangers])]
    assert all(c.passed for c in Leak(references=(some,)).sift(asked, Nobody()))
    rule = Leak.model_validate({"references": [some], "rephrased": {}, "on": "prompt"})
    checks = list(rule.sift(asked, Nobody()))
    wanted = [row if "gsm8k" in name else 60 + row for name, row in REPHRASED]
    assert [c.reason for c in checks[: len(wanted)]] == ["rephrased_evaluation_item"] * len(wanted)
    assert all(f"some.jsonl:{row}, " in c.detail for row, c in zip(wanted, checks, strict=False))
    assert all(c.passed for c in checks[len(wanted) :])
    unsure = Leak.model_validate({"references": [some], "rephrased": {"min_kept": 1}, "on": "prompt"})
    (flagged,) = unsure.sift(asked[2:3], Nobody())
    assert flagged.passed
    assert flagged.detail.startswith("candidate: cosine 0.9")
