"""Metrics against known values: overlap in Korean and English, language, diversity, probes, human texts, leaks."""

import itertools
import math
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from filters.judge import Judge
from pipeline.errors import UsageError
from stages.bootstrap import Score, mean
from stages.scores import FAMILIES
from stages.scores.base import Columns, Example, Loss, Paper
from stages.scores.diversity import distinct, diversity
from stages.scores.human import Human
from stages.scores.judged import outscored
from stages.scores.language import language
from stages.scores.leaks import leaked, trained_prompts
from stages.scores.likelihood import likelihood
from stages.scores.overlap import overlap, rouge_l, units
from stages.scores.probes import Probe, probed
from tests.helpers import record
from tests.stages.conftest import RUBRIC

words = st.lists(st.sampled_from(["a", "fox", "ran", "home", "달", "여우"]), max_size=12)


def example(*references: str, id: str = "r1", prompt: str = "A story.") -> Example:
    return Example(record(references[0], id=id, prompt=prompt), references)


def paper(*pairs: tuple[str, str], **more: Any) -> Paper:
    """Answers with the held-out ones they are held against."""
    return Paper([example(reference) for _, reference in pairs], [answer for answer, _ in pairs], **more)


def means(columns: Columns) -> dict[str, float | None]:
    return {metric.name: mean(column) for metric, column in columns.items()}


def lcs(a: list[str], b: list[str]) -> int:
    """The textbook's table."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(words, words)
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    said, wanted = units(" ".join(a)), units(" ".join(b))
    common = lcs(said, wanted)
    expected = 2 * common / (len(said) + len(wanted)) if common else 0.0
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(expected)


def test_rouge_l_equals_that_of_google_on_english() -> None:
    """Values of the package rouge-score 0.1.2, without stemming."""
    assert rouge_l("The fox found a boat.", "A fox has found the boat!") == pytest.approx(0.5454545454545454)
    assert rouge_l("the cat sat on the mat", "the cat was on a mat") == pytest.approx(2 / 3)


def test_korean_counts_by_the_syllable() -> None:
    """Another particle on a word costs one syllable of it, not the word."""
    assert units("여우가 boat를 봤다") == ["여", "우", "가", "boat", "를", "봤", "다"]
    assert rouge_l("여우가 달을 보았다", "여우는 달을 보았다") == pytest.approx(7 / 8)
    assert rouge_l("", "여우") == rouge_l("...", "여우") == 0


def test_overlap_takes_the_best_reference_and_leaves_the_teachers_own_answers_out() -> None:
    both = Paper([example("달이 떴다", "a fox ran home")], ["a fox ran home"])
    assert means(overlap(both)) == {"rouge_l": 1, "chrf": pytest.approx(1)}
    assert overlap(Paper(both.examples, both.answers, own=True)) == {}
    other = means(overlap(paper(("zzz qqq", "a fox ran home"))))
    assert other["rouge_l"] == 0 and other["chrf"] is not None and other["chrf"] < 0.1


KOREAN = "옛날 옛적에 작은 여우가 숲속에서 반짝이는 달을 바라보며 노래를 불렀어요."
ENGLISH = "Once upon a time a little fox looked at the shining moon in the woods and sang a happy song."


@pytest.mark.parametrize(
    ("answer", "reference", "kept"),
    [
        (KOREAN, KOREAN, 1),
        (ENGLISH, ENGLISH, 1),
        (ENGLISH, KOREAN, 0),
        (KOREAN, ENGLISH, 0),
        ("qq zx " * 20, ENGLISH, 0),
        ("", KOREAN, None),
        (ENGLISH, "42", None),
    ],
)
def test_language_kept(answer: str, reference: str, kept: float | None) -> None:
    (column,) = language(paper((answer, reference))).values()
    assert column == [None if kept is None else Score(kept)]


@given(st.lists(words, min_size=1, max_size=6))
def test_distinct_2_is_the_share_of_different_pairs(texts: list[list[str]]) -> None:
    pairs = [pair for text in texts for pair in itertools.pairwise(text)]
    found = mean(distinct([tuple(text) for text in texts]))
    assert found == (pytest.approx(len(set(pairs)) / len(pairs)) if pairs else None)


def test_collapse_shows() -> None:
    """One answer to every prompt: self-BLEU at its most, distinct-2 at its least."""
    varied = [ENGLISH, "The bear baked bread for all of her friends by the river today.", KOREAN, "A duck."]
    same, different = (means(diversity(paper(*((a, a) for a in said)))) for said in ([ENGLISH] * 4, varied))
    assert same["self_bleu"] == pytest.approx(1) and different["self_bleu"] is not None
    assert different["self_bleu"] < 0.3
    assert same["distinct_2"] == pytest.approx(1 / 4) and different["distinct_2"] == 1
    assert different["characters"] == pytest.approx(sum(map(len, varied)) / 4)


def test_whose_score_is_higher_has_won(tmp_path: Path) -> None:
    """A prompt with one score only is no duel."""
    (tmp_path / "rate.md").write_text(RUBRIC.format(name="Rate"))
    judge = Judge(prompt=tmp_path / "rate.md")
    one = [Score(3.0), Score(2.0), Score(1.0), None, Score(4.0)]
    other = [Score(2.5), Score(2.0), Score(4.0), Score(1.0), Score(1.0)]
    duels = outscored(judge, "trained", "untrained", one, other)
    assert duels.column == [Score(1), Score(0.5), Score(0), None, Score(1)]
    counts = duels.plain()
    assert [counts[key] for key in ("won", "tied", "lost", "flipped", "no_verdict")] == [2, 1, 1, 0, 1]
    assert duels.metric.name == counts["metric"] == "judge_vs_untrained"


def test_ended_is_the_share_of_whole_answers() -> None:
    columns = diversity(paper(("a b", "x"), ("c d", "y"), ended=[True, False]))
    assert means(columns)["ended"] == 0.5


def test_perplexity_and_bits_are_over_all_tokens_and_bytes() -> None:
    losses = [Loss(6.0, 2, 10), Loss(1.0, 5, 20), Loss(0.0, 0, 0)]
    columns = likelihood(Paper([], [], losses=losses))
    values = {m.name: m.value(mean(c) or 0) for m, c in columns.items()}
    assert values == pytest.approx({"perplexity": math.exp(1), "bits_per_byte": 7 / math.log(2) / 30})


def test_a_model_that_wrote_nothing_has_no_column() -> None:
    assert [family(Paper([example("a")], [])) for family in FAMILIES] == [{}] * len(FAMILIES)


def test_probes_pass_and_fail(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object", "required": ["name"]}')
    probes = [
        Probe(prompt="7 times 8?", final="number", gold=56),
        Probe(prompt="Name a colour.", pattern="^(red|빨강)$"),
        Probe(prompt="A person as JSON.", json_schema={"type": "object", "required": ["name"]}, system="Be brief."),
    ]
    answers = ["That makes 56.", "빨강", '```json\n{"name": "Kim"}\n```']
    assert list(probed(probes, answers).values()) == [[Score(1.0)] * 3]
    assert list(probed(probes, ["57", "red or blue", "{}"]).values()) == [[Score(0.0)] * 3]
    assert probed([], []) == {}
    assert len({probe.id for probe in probes}) == 3
    assert [m.role for m in probes[2].messages] == ["system", "user"]


@pytest.mark.parametrize(
    "wrong",
    [{}, {"final": "number"}, {"gold": "4"}, {"pattern": "("}, {"json_schema": {"type": "nonsense"}}],
)
def test_a_probe_that_checks_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Probe(prompt="What?", **wrong)


def test_human_texts_from_jsonl_and_plain_text(tmp_path: Path) -> None:
    rows = [
        {"text": "plain words"},
        {"text": "  "},
        {"prompt": "Who?", "completion": "A fox."},
        {"instruction": "말해요", "output": "달"},
    ]
    file = tmp_path / "human.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    found = Human(file=file).texts()
    assert [text.said for text in found] == ["plain words", "A fox.", "달"]
    assert [bool(text.turns) for text in found] == [False, True, True]
    assert found[0].where == "human.jsonl:1" and found[1].where == "human.jsonl:3"
    (tmp_path / "human.txt").write_text("하나\n\n둘\n\n" + "긴" * 3000)
    texts = Human(file=tmp_path / "human.txt", rows=3).texts()
    assert [len(text.said) for text in texts] == [2, 1, 2000]
    assert len(Human(file=tmp_path / "human.txt", rows=2).texts()) == 2


@pytest.mark.parametrize("line", ['{"prompt": "x"}', '{"messages": [{"role": "user", "content": "hm"}]}', "", "no"])
def test_a_file_without_human_texts_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "human.jsonl").write_text(line)
    with pytest.raises(UsageError, match=r"human\.jsonl"):
        Human(file=tmp_path / "human.jsonl").texts()


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a  STORY."}]},
        {"messages": [{"role": "user", "content": "A story."}, {"role": "assistant", "content": "x"}]},
        {"chosen": [{"role": "user", "content": "A story."}, {"role": "assistant", "content": "x"}]},
        {"prompt": "Ａ story."},
        {"prompt": [{"role": "user", "content": "[label] A story."}]},
    ],
)
def test_prompts_that_were_trained_on_are_found(tmp_path: Path, row: dict[str, Any]) -> None:
    """In every shape of training row, but for case, width, spaces and what the objective puts before them."""
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(orjson.dumps(row) + b"\n")
    known = trained_prompts(rows, ("[label] ", ""))
    assert leaked(record(prompt="A story."), known)
    assert not leaked(record(prompt="Another story."), known)
