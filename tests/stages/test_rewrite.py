"""The seed's text in other words."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.engines import Completion, Request
from pipeline.errors import UsageError
from pipeline.records import Seed
from stages.tasks.base import Example
from stages.tasks.rewrite import Rewrite
from tests.stages.scripted import played

TEXT = "The fox could not reach the grapes, so he called them sour."


def rewritten(folder: Path, *answers: str, **settings: object) -> tuple[Example, list[Request]]:
    """What becomes of the text when the teacher says these things in turn."""
    asked: list[Request] = []
    left = list(answers)

    def script(request: Request) -> Completion:
        asked.append(request)
        return Completion(text=left.pop(0), finish_reason="stop")

    task = Rewrite.model_validate({"to": "Korean"} | settings)
    (unit,) = played(task, [Seed("s", {"text": TEXT}, "seeds.jsonl:1")], folder, script)
    (example,) = unit.examples
    return example, asked


@pytest.mark.parametrize(
    ("how", "to", "language", "told"),
    [
        ("translate", "Korean", "en", f"Translate into Korean:\n\n{TEXT}"),
        ("translate", "한국어", "ko", f"다음 글을 한국어로 번역해 주세요.\n\n{TEXT}"),
        ("restyle", "a telegram", "en", f"Rewrite this text in the style of a telegram:\n\n{TEXT}"),
        ("restyle", "뉴스 기사", "ko", f"다음 글을 이런 문체로 고쳐 써 주세요: 뉴스 기사\n\n{TEXT}"),
        ("summarise", "one sentence", "en", f"Summarise this text in one sentence:\n\n{TEXT}"),
        ("summarise", "한 문장", "ko", f"다음 글을 한 문장 분량으로 요약해 주세요.\n\n{TEXT}"),
    ],
)
def test_the_student_learns_the_plain_request(how: str, to: str, language: str, told: str, tmp_path: Path) -> None:
    """The teacher's instructions to the letter stay out of the record."""
    example, asked = rewritten(tmp_path, "포도가 시다.", how=how, to=to, language=language)
    assert [(m.role, m.content) for m in example.messages] == [("user", told), ("assistant", "포도가 시다.")]
    assert [m.role for m in asked[0].messages] == ["system", "user"]


def test_there_and_back_is_a_paraphrase(tmp_path: Path) -> None:
    """Two translations; the record asks for other words and keeps what lay between in `meta`."""
    example, asked = rewritten(
        tmp_path, "여우는 포도가 시다고 했다.", "The fox said they were sour.",
        how="back_translate", to="English", via="Korean",
    )  # fmt: skip
    assert asked[0].messages[-1].content == f"Translate into Korean:\n\n{TEXT}"
    assert asked[1].messages[-1].content == "Translate into English:\n\n여우는 포도가 시다고 했다."
    assert example.messages[0].content == f"Say this in other words:\n\n{TEXT}"
    assert example.messages[1].content == "The fox said they were sour."
    assert example.meta == {"via": "여우는 포도가 시다고 했다."} and not example.reason


def test_a_way_back_to_the_same_text_is_dropped(tmp_path: Path) -> None:
    """Spacing and case make no paraphrase."""
    example, _ = rewritten(tmp_path, "여우", TEXT.upper(), how="back_translate", to="English", via="Korean")
    assert example.reason == "unchanged"


@pytest.mark.parametrize(
    ("settings", "said", "reason"),
    [
        ({"how": "translate"}, TEXT, "copied"),
        ({"how": "restyle"}, f" {TEXT.lower()} ", "copied"),
        ({"how": "summarise"}, f"{TEXT} And so on.", "not_shorter"),
        ({"how": "translate"}, " ", "empty_answer"),
        ({"how": "back_translate", "via": "French"}, TEXT, "copied"),
    ],
)
def test_what_is_no_rewriting_is_dropped(settings: dict[str, str], said: str, reason: str, tmp_path: Path) -> None:
    """The source again teaches nothing."""
    example, asked = rewritten(tmp_path, said, **settings)
    assert (example.reason, len(asked)) == (reason, 1)


def test_an_own_prompt_may_have_another_request_for_the_student(tmp_path: Path) -> None:
    """`student_prompt` is what the record's user turn says; both count in the version."""
    own, shown = tmp_path / "own.md", tmp_path / "shown.md"
    own.write_text("---\nabout: x\nneeds: [text, to]\n---\n>>> user\nPlease, {{ to }}! {{ text }}\n")
    shown.write_text("---\nabout: x\nneeds: [text]\n---\n>>> user\nKorean? {{ text }}\n")
    example, asked = rewritten(tmp_path, "여우", how="translate", prompt=own, student_prompt=shown)
    assert asked[0].messages[-1].content == f"Please, Korean! {TEXT}"
    assert example.messages[0].content == f"Korean? {TEXT}"
    plain = Rewrite(how="translate", to="Korean", prompt=own)
    assert plain.identity() != Rewrite(how="translate", to="Korean", prompt=own, student_prompt=shown).identity()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"how": "back_translate", "to": "English"}, "needs `via`"),
        ({"how": "translate", "to": "Korean", "via": "French"}, "is for back_translate"),
        ({"how": "back_translate", "to": "English", "via": "english"}, "are both"),
        ({"how": "translate", "to": ""}, "at least 1 character"),
        ({"how": "translate", "to": "Korean", "language": "fr"}, "'en' or 'ko'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, str], problem: str) -> None:
    """When the plan is read, each with one message."""
    with pytest.raises(ValidationError, match=problem) as caught:
        Rewrite.model_validate(settings)
    assert len(caught.value.errors()) == 1


def test_a_seed_without_text_is_refused_before_asking(tmp_path: Path) -> None:
    """The error names the row."""
    task = Rewrite(how="translate", to="Korean")
    with pytest.raises(UsageError, match=r"seeds\.jsonl:4: text holds no text"):
        played(task, [Seed("s", {"text": ["a"]}, "seeds.jsonl:4")], tmp_path, lambda request: Completion())
