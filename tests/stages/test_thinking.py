"""A reasoning model's thinking is told from its text."""

import pytest

from pipeline.engines import Completion
from stages.tasks.thinking import apart


@pytest.mark.parametrize(
    ("text", "said", "thought"),
    [
        ("<think>\nTwo and two.\n</think>\n\nFour.", "Four.", "Two and two."),
        ("two and two\n</think>\nFour.", "Four.", "two and two"),  # the prompt had opened it
        ("  <think>생각 중</think>네.", "네.", "생각 중"),
        ("<think>never ends", "", "never ends"),
        ("<think></think>Four.", "Four.", ""),
        ("Four.", "Four.", ""),
        ("Write `<think>` and `</think>` around it.", "Write `<think>` and `</think>` around it.", ""),
    ],
)
def test_thinking_is_apart(text: str, said: str, thought: str) -> None:
    """What stands between the tags at the beginning is thinking; tags in running text are text."""
    found = apart(Completion(text=text))
    assert (found.text, found.reasoning) == (said, thought)


def test_what_a_server_told_apart_stays() -> None:
    """Thinking that came in a field of its own is kept."""
    assert apart(Completion(text="Four.", reasoning="2+2")).reasoning == "2+2"
