"""Near: planted edits are found and nothing else is; the best of a group stays, and the reason says whom it is like."""

import random
import unicodedata
from typing import Any

import pytest

from filters.near import Near
from filters.similar import band_rows
from pipeline.errors import UsageError
from pipeline.records import Check, Record
from tests.helpers import Nobody, record, records

VOCABULARY = [f"{a}{b}{c}" for a in ("ba", "cor", "den", "fi", "gal") for b in ("lo", "min", "ra", "te", "nu", "s")
              for c in ("", "r", "ket", "vo", "shi", "l", "ma")]  # fmt: skip
SYLLABLES = [chr(code) for code in range(0xAC00, 0xAC00 + 9000, 37)]


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(VOCABULARY, k=words)).capitalize() + "."


def korean(rng: random.Random, words: int) -> str:
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(2, 5))) for _ in range(words))


def edited(given: str, rng: random.Random, share: float) -> str:
    """The text with this share of its words replaced, removed or doubled."""
    parts = given.split(" ")
    for place in rng.sample(range(len(parts)), max(1, round(share * len(parts)))):
        parts[place] = rng.choice(["zebra", "", f"{parts[place]} {parts[place]}"])
    return " ".join(filter(None, parts))


def judged(rows: list[Record], **settings: Any) -> list[Check]:
    checks = list(Near.model_validate({"kind": "near"} | settings).sift(rows, Nobody()))
    assert len(checks) == len(rows)
    return checks


def test_planted_edits_are_found_and_nothing_else() -> None:
    """1 to 5 % of the words changed: recall and precision of 1 over 400 copies among 2,400 texts of 40 words and up."""
    rng = random.Random(5)
    originals = [text(rng, rng.randint(40, 300)) for _ in range(2000)]
    copied = rng.sample(range(2000), 400)
    rows = records(*originals, *(edited(originals[n], rng, rng.uniform(0.01, 0.05)) for n in copied))
    checks = judged(rows)
    assert all(c.passed for c in checks[:2000])
    right = [c.detail.endswith(f"similar to r{n}") for n, c in zip(copied, checks[2000:], strict=True) if not c.passed]
    assert len(right) >= 0.995 * 400
    assert all(right)


def test_korean_is_compared_by_the_syllable() -> None:
    """Edits of one word in twenty and other spacing are found, whatever the Unicode form; other texts are not."""
    rng = random.Random(6)
    originals = [korean(rng, 30) for _ in range(300)]
    copies = [edited(t, rng, 0.05) for t in originals[:100]]
    spaced = [t.replace(" ", "", 8) for t in originals[100:200]]
    decomposed = [unicodedata.normalize("NFD", t) for t in originals[200:300]]
    checks = judged(records(*originals, *copies, *spaced, *decomposed))
    assert all(c.passed for c in checks[:300])
    assert sum(not c.passed for c in checks[300:400]) >= 98
    assert not any(c.passed for c in checks[400:])
    words = judged(records(*originals, *spaced), shingles="words")
    assert sum(not c.passed for c in words) < 20  # as words, eight joined ones of thirty are another text


def test_the_value_is_the_similarity_passed_or_not() -> None:
    """20 words of which one differs share 18 of 24 shingles, two share 15 of 27: measured, and passed."""
    words = [f"w{n}" for n in range(20)]
    far = [w if n not in (5, 15) else "x" for n, w in enumerate(words)]
    checks = judged(records(" ".join(words), " ".join([*words[:9], "other", *words[10:]]), " ".join(far)), on="answer")
    assert (checks[1].value, checks[1].reason, checks[1].detail) == (0.75, "near_duplicate", "0.75 similar to r0")
    assert checks[0].passed and checks[2].passed
    assert checks[0].value == checks[2].value == pytest.approx(15 / 27, abs=1e-4)


def chain() -> list[Record]:
    """Three texts: the second is like both others, which are not alike."""
    words = [f"w{n}" for n in range(60)]
    begin = [*("a" * 3), *words[:57]]
    end = [*words[3:], *("b" * 3)]
    for place in (20, 30):
        begin[place + 3], end[place - 3 + 8] = "changed", "altered"
    return records(" ".join(begin), " ".join(words), " ".join(end))


def test_groups_are_linked() -> None:
    """Where a is like b and b like c one stays, and the reason of the other names its way to it."""
    checks = judged(chain(), max_similarity=0.63)
    assert [c.passed for c in checks] == [True, False, False]
    direct, _, link = checks[2].detail.partition(", ")
    assert direct.endswith("similar to r0") and float(direct[:4]) <= 0.63
    assert link.endswith("to r1 of its group") and float(link[:4]) > 0.63
    assert checks[2].value > 0.63


def test_the_best_stays() -> None:
    """The first, the longest, or the best by a check, which a record need not have."""
    rows = chain()
    rows[1] = rows[1].checked(Check(name="quality", value=4))
    rows[2] = rows[2].checked(Check(name="quality", value=7))
    kept = {keep: [c.passed for c in judged(rows, max_similarity=0.63, keep=keep)].index(True)
            for keep in ("first", "quality", "longest")}  # fmt: skip
    longest = max(range(3), key=lambda n: len(rows[n].answer))
    assert kept == {"first": 0, "quality": 2, "longest": longest}
    with pytest.raises(UsageError, match="no record has a check of that name"):
        judged(rows, keep="nothing")


def test_short_texts_need_more_than_most_words_in_common() -> None:
    """One word of six makes another text; the same words in another order do, too."""
    rows = records("What is the capital of France?", "What is the capital of Spain?", "man bites dog", "dog bites man",
                   "Yes", "No", "yes!")  # fmt: skip
    assert [c.passed for c in judged(rows)] == [True] * 6 + [False]


def test_texts_without_words_are_alike_to_none() -> None:
    """Emoji, marks and nothing at all are left to other rules."""
    assert all(c.passed and c.value == 0 for c in judged(records("", "🐰🐻", "🐰🐻", "!!!", "")))


def test_of_both_the_answers_must_be_alike_too() -> None:
    """One long question with two answers makes two rows, and so do two questions with one short answer."""
    rng = random.Random(7)
    document, other = text(rng, 200), text(rng, 200)
    rows = [
        record(text(rng, 30), id="a", prompt=document),
        record(text(rng, 30), id="b", prompt=document),
        record("Yes.", id="c", prompt=other),
        record("Yes.", id="d", prompt=text(rng, 20)),
        record("Yes.", id="e", prompt=edited(other, rng, 0.03)),
    ]
    lost = {on: "".join(r.id for r, c in zip(rows, judged(rows, on=on), strict=True) if not c.passed)
            for on in ("answer", "prompt", "both")}  # fmt: skip
    assert lost == {"answer": "de", "prompt": "be", "both": "e"}


def test_a_dropped_record_stands_for_none() -> None:
    """Where dropped records are measured, too, the live ones are judged as if they were not there, links included."""
    gone = Check(name="before", passed=False, reason="gone")
    rows = chain()
    rows[1] = rows[1].checked(gone)
    checks = judged(rows, max_similarity=0.63)
    live = judged([rows[0], rows[2]], max_similarity=0.63)
    assert [c.passed for c in checks] == [True, False, True]
    assert [checks[0], checks[2]] == live


def test_the_same_order_gives_the_same_in_batches_of_any_size() -> None:
    """Where a batch ends makes no difference: 64 texts a batch, of 1 to 1,000 words."""
    rng = random.Random(8)
    texts = [text(rng, rng.choice([1, 30, 1000])) for _ in range(300)]
    whole = judged(records(*texts, *texts))
    assert [c.passed for c in whole[300:]] == [False] * 300
    shifted = judged(records("only this", *texts, *texts))
    assert [c.passed for c in shifted[1:]] == [c.passed for c in whole]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.6, 0.8, 0.9, 0.99])
def test_bands_meet_the_threshold(threshold: float) -> None:
    """A pair at the threshold meets in some band with 95 % at least, and with fewer rows more often."""
    rows = band_rows(threshold)
    assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.95


def test_a_template_common_to_all_hides_no_copies() -> None:
    """Texts that share two fifths of their words, all in the same buckets: copies are found all the same."""
    rng = random.Random(9)
    template = text(rng, 60)
    originals = [f"{template} {text(rng, 90)}" for _ in range(1500)]
    copied = rng.sample(range(1500), 150)
    checks = judged(records(*originals, *(edited(originals[n], rng, 0.03) for n in copied)))
    assert all(c.passed for c in checks[:1500])
    assert sum(not c.passed for c in checks[1500:]) >= 0.98 * 150
