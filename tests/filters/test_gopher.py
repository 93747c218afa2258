"""Gopher's quality rules: the paper's bounds for documents, wide ones for answers."""

import pytest

from filters.gopher import Gopher
from tests.helpers import record

PAPER = Gopher(
    min_words=50, min_mean_chars=3, max_mean_chars=10, max_symbols=0.1, max_bullet_lines=0.9, max_ellipsis_lines=0.3,
    min_alphabetic=0.8, min_stop_words=2,
)  # fmt: skip
PROSE = (
    "The keeper of the light had a small garden that he loved, and every morning he went out with a can of water to "
    "see what the night had done to it. The wind had broken the beans again, so he tied them up and thought of rain. "
    "Down at the harbour the boats were coming in with their lamps still lit, and the gulls cried over them."
)
BULLETS = "\n".join(f"- that is the line of the list with number words {n}" for n in range(20))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, ""),
        ("A short answer.", "too_few_words"),
        ("a b c d e to of " * 20, "short_words"),
        ("internationalisation " * 60, "long_words"),
        (PROSE.replace("the", "# the") + " #" * 20, "many_symbols"),
        (BULLETS, "bullet_lines"),
        (PROSE.replace(". ", "...\n"), "ellipsis_lines"),
        (f"{PROSE} " + "123 456 " * 40, "few_letters"),
        (PROSE.replace("the", "a").replace("The", "A").replace("of", "in").replace("and", "or").replace("that", "he")
         .replace("to ", "for ").replace("with", "by").replace("had", "has"), "few_stop_words"),
    ],
)  # fmt: skip
def test_each_bound_of_the_paper(text: str, reason: str) -> None:
    """Prose passes the paper's bounds; each bound drops what it is there for."""
    check = PAPER.judge(record(text))
    assert check.reason == reason, check


@pytest.mark.parametrize(
    "text", ["yes", "42", BULLETS, "토끼가 달을 보았어요.", "1 2 3 4 5 6 7 8 9 10 11 12", "def f(x): return x", ""]
)
def test_the_defaults_pass_answers(text: str) -> None:
    """Short answers, lists, sums, code and Korean pass by default."""
    assert Gopher().judge(record(text)).passed


@pytest.mark.parametrize("text", ["### ... ### ... " * 10, "wait...\n" * 12])
def test_the_defaults_drop_what_is_no_language(text: str) -> None:
    """Marks in place of words are dropped even so."""
    assert not Gopher().judge(record(text)).passed


def test_scripts_beyond_ascii_count_alike() -> None:
    """The quick way for ASCII and the other one agree."""
    for text in (PROSE, BULLETS, f"{PROSE} 12 34 56 78", f"{PROSE} 12 ## 34 !" * 20):
        one, other = PAPER.judge(record(text)), PAPER.judge(record(f"{text} é"))
        assert one.reason == other.reason
        assert other.value == pytest.approx(one.value, rel=0.05)
