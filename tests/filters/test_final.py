"""Final answers: what announces them, and what is the last number."""

import pytest

from filters.final import Check, final_of
from tests.filters.good_rows import solutions


@pytest.mark.parametrize(
    ("check", "text", "final"),
    [
        ("number", "The answer is 42, since 6 times 7 is that.", "42"),
        ("number", "The answer is 6 * 7 = 42.", "42"),
        ("number", "So \\boxed{12}, as 3 of 4 said.", "12"),
        ("number", "정답은 48자루입니다. 12개씩 4묶음이에요.", "48"),
        ("number", "3 + 4\n#### 7\nThat took 2 steps.", "7"),
        ("number", "First 3, then 4, so 7", "7"),
        ("number", "The answer is clear: 8", "8"),
        ("number", "nothing", ""),
        ("choice", "A. is wrong, B. as well. The answer is (C).", "C"),
        ("choice", "정답은 3번입니다.", "3"),
        ("choice", "정답: ④", "4"),
        ("choice", "**B**", "B"),
        ("choice", "2", "2"),
        ("exact", " Yes. ", "yes"),
    ],
)
def test_the_final_answer_is_read(check: Check, text: str, final: str) -> None:
    """An announcement counts before the last of its sort."""
    assert final_of(check, text) == final


def test_every_solution_of_gsm8k_has_its_own() -> None:
    """What stands behind the mark of its 7,473 solutions is what is read."""
    for row in solutions():
        said = row.answer.rpartition("####")[2].strip()
        assert final_of("number", row.answer) == final_of("number", said) != ""
