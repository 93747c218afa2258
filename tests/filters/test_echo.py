"""Echo: an answer that says the instruction again."""

from filters.echo import Echo
from tests.helpers import record

KOREAN = "토끼 이야기를 3~5세 어린이가 이해할 수 있는 쉬운 한국어로 써 주세요."
ENGLISH = "Write a story for children of 3 to 5 about a little fox."


def test_an_answer_that_begins_with_the_instruction_is_dropped() -> None:
    """The instruction's first characters in the answer are an echo, in both languages."""
    for prompt in (KOREAN, ENGLISH):
        check = Echo().judge(record(f"{prompt} Once there was one.", prompt=prompt))
        assert (check.reason, check.value) == ("repeats_instruction", len(prompt))


def test_an_echo_is_found_anywhere() -> None:
    """An echo after an opening phrase, in other case and spacing, is one too."""
    check = Echo().judge(record("Sure! WRITE  a\nstory for children of 3 to 9.", prompt=ENGLISH))
    assert not check.passed
    assert check.value == len("write a story for children of 3 to ")


def test_a_story_passes() -> None:
    """Words shared with the instruction are no echo."""
    assert Echo().judge(record("A little fox wrote a story for children.", prompt=ENGLISH)).passed
    assert Echo().judge(record("토끼 한 마리가 숲에 살았어요.", prompt=KOREAN)).passed


def test_fewer_characters_than_the_prefix_are_no_echo() -> None:
    """One character short of `prefix_chars` passes; the full prefix does not."""
    prompt = "abcdefghijklmnopqrstuvwxyz"
    rule = Echo(prefix_chars=10)
    assert rule.judge(record(prompt[:9], prompt=prompt)).passed
    assert not rule.judge(record(prompt[:10], prompt=prompt)).passed


def test_a_short_instruction_cannot_be_echoed() -> None:
    """Below `prefix_chars` an instruction is too short to tell an echo from an answer."""
    assert Echo().judge(record("What is a fox? It is an animal.", prompt="What is a fox?")).passed
