"""Echo: an answer that says the instruction again."""

import pytest

from filters.echo import Echo, longest_common
from tests.helpers import record

KOREAN = "토끼 이야기를 3~5세 어린이가 이해할 수 있는 쉬운 한국어로 써 주세요."
ENGLISH = "Write a story for children of 3 to 5 about a little fox."


def reason(answer: str, prompt: str) -> str:
    return Echo().judge(record(answer, prompt=prompt)).reason


def test_an_answer_that_begins_with_the_instruction_is_dropped() -> None:
    """The instruction in the answer is an echo, in both languages."""
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


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("What is the main ingredient in French baguettes?", "The main ingredient in French baguettes is flour."),
        ("Explain why the sky is blue at noon.", "Here I explain why the sky is blue at noon, and red at night."),
        ("What is the smallest prime above ninety?", '"What is the smallest prime above ninety?" has one answer: 97.'),
        ("Benefits of walking every morning", "# Benefits of walking every morning\n\nIt wakes you up."),
        ("Tom has two apples and a pear. How many has he?", "Tom has two apples and a pear. So he has three."),
    ],
)
def test_taking_up_the_question_is_no_echo(prompt: str, answer: str) -> None:
    """Part of the question in the first sentence, the question quoted, a title: all ordinary."""
    assert reason(answer, prompt) == ""


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("The quick brown fox jump over the lazy dog. Correct the grammar.", "The quick brown fox jumps over the dog."),
        ("다음 문장의 맞춤법을 고쳐 주세요: 토끼가 숲에 살앗어요.", "토끼가 숲에 살았어요."),
        (
            "def double(number):\n    return number + number * 1\n\nFix it.",
            "def double(number):\n    return number * 2",
        ),
        ("Translate to Korean: The rabbit looked at the moon.", "토끼가 달을 보았어요."),
        ("Continue: Once upon a time a fox found a boat", "Once upon a time a fox found a boat and sailed home."),
    ],
)
def test_working_on_a_text_may_give_it_back(prompt: str, answer: str) -> None:
    """Corrections, translations, code and continuations hold what they were given."""
    assert reason(answer, prompt) == ""


def test_even_then_the_whole_prompt_is_an_echo() -> None:
    """An answer that holds the instruction and the text to work on did no work."""
    prompt = "Correct the grammar. The quick brown fox jump over the lazy dog."
    assert reason(f"{prompt} Thank you.", prompt) == "copies_prompt"


def test_an_instruction_with_slips_is_an_echo() -> None:
    """A prompt said again with a letter changed is caught by similarity."""
    assert reason(ENGLISH.replace("little", "litle"), ENGLISH) in ("repeats_instruction", "copies_prompt")


def test_a_short_instruction_cannot_be_echoed() -> None:
    """Below `prefix_chars` an instruction is too short to tell an echo from an answer; the setting says how short."""
    assert Echo().judge(record("What is a fox? It is an animal.", prompt="What is a fox?")).passed
    assert not Echo(prefix_chars=10).judge(record("What is a fox? It is an animal.", prompt="What is a fox?")).passed


def test_the_longest_common_part_is_measured() -> None:
    """A check tells how many characters stand in one piece in both, passed or not."""
    shared = "the moon over the quiet forest"
    assert longest_common(f"write of {shared} now", f"once {shared} shone") == f" {shared} "
    assert longest_common("abc", "abc") == longest_common("", "") == ""
    check = Echo().judge(record(f"Once {shared} shone.", prompt=f"A poem on {shared}, gently."))
    assert (check.passed, check.value) == (True, len(shared) + 1)
