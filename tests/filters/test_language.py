"""Language: the one that is wanted, or the prompt's; what is too short is not guessed."""

import pytest
from pydantic import ValidationError

from filters.language import Language
from tests.helpers import record

KOREAN = "토끼는 달을 아주 좋아해서 어느 날 밤 달에게 편지를 썼어요."
ENGLISH = "The rabbit liked the moon so much that one night he wrote a letter to it."
GERMAN = "Der Hase mochte den Mond so sehr, dass er ihm eines Nachts einen Brief schrieb."
JAPANESE = "ウサギは月がとても好きで、ある夜、月に手紙を書きました。"


@pytest.mark.parametrize(("code", "text"), [("ko", KOREAN), ("en", ENGLISH), ("de", GERMAN), ("ja", JAPANESE)])
def test_a_language_is_told(code: str, text: str) -> None:
    """A sentence is enough; any other wanted language drops it."""
    for want in ("ko", "en", "de", "ja"):
        check = Language(want=want).judge(record(text))
        assert check.passed == (want == code)
        assert check.passed or (check.reason == "wrong_language" and code in check.detail)
        assert (check.value > 0.9) == check.passed


@pytest.mark.parametrize(
    "text", ["", "42", "Yes.", "OK!", "Ragu", "x = 1", "🐰", "```py\nprint('hello world, my friend')\n```"]
)
def test_what_is_too_short_is_unknown(text: str) -> None:
    """Short texts, numbers and code pass, and say that nothing was told."""
    check = Language(want="ko").judge(record(text))
    assert check.passed
    assert check.detail.startswith("unknown")


def test_a_text_of_two_languages_counts_by_its_share() -> None:
    """Korean that turns English half-way is dropped once the share is too small."""
    mixed = f"{KOREAN} {ENGLISH} {ENGLISH} {ENGLISH}"
    check = Language(want="ko").judge(record(mixed))
    assert not check.passed
    assert 0.1 < check.value < 0.5
    assert Language(want="ko", min_share=0.1).judge(record(mixed)).passed
    assert Language(want="ko").judge(record("파이썬에서는 `def greet(name): return name` 처럼 함수를 만듭니다.")).passed


def test_prompt_and_answer_in_one_language() -> None:
    """`same` wants an answer in the prompt's language, whichever it is."""
    rule = Language(same=True)
    assert rule.judge(record(KOREAN, prompt="달을 좋아하는 토끼 이야기를 써 주세요.")).passed
    assert rule.judge(record(ENGLISH, prompt="Tell me a short story about a rabbit and the moon.")).passed
    check = rule.judge(record(ENGLISH, prompt="달을 좋아하는 토끼 이야기를 써 주세요."))
    assert (check.reason, check.value) == ("other_language", 0)
    assert "the prompt is ko" in check.detail
    assert rule.judge(record(ENGLISH, prompt="Hi!")).detail.startswith("unknown")


def test_a_translation_may_leave_the_language() -> None:
    """A language that the prompt names is as good as its own; others are not."""
    for rule in (Language(same=True), Language(want="ko")):
        prompt = "다음 문장을 영어로 번역해 주세요: 토끼는 달을 좋아해서 달에게 편지를 썼어요."
        assert rule.judge(record(ENGLISH, prompt=prompt)).passed
        assert not rule.judge(record(GERMAN, prompt=prompt)).passed
    prompt = "Translate this into German: the rabbit liked the moon so much that he wrote a letter."
    assert Language(same=True).judge(record(GERMAN, prompt=prompt)).passed


def test_control_characters_are_no_obstacle() -> None:
    """Bytes that the library refuses are left out, not guessed around."""
    assert Language(want="en").judge(record(f"\x00{ENGLISH}\x07 {ENGLISH}")).value > 0.9


@pytest.mark.parametrize(
    "settings", [{}, {"want": "ko", "same": True}, {"want": "korean"}, {"same": True, "on": "both"}]
)
def test_an_unclear_aim_is_refused(settings: dict[str, object]) -> None:
    """One of `want` and `same`, and a code that exists."""
    with pytest.raises(ValidationError):
        Language.model_validate(settings)
