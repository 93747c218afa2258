"""The user's words out of the empty user turn."""

from pathlib import Path

import pytest

from pipeline.engines import Completion, Request
from pipeline.engines.openai import OpenAI
from pipeline.errors import UsageError
from pipeline.records import Seed
from stages.scripts import Unit
from stages.tasks.magpie import Magpie
from tests.stages.scripted import played

COOK = "You are a cook."


def written(folder: Path, users: list[str], answers: list[str], **settings: object) -> tuple[Unit, list[Request]]:
    """What becomes of one seed when the model writes these users' turns and these answers."""
    asked: list[Request] = []
    sides = {True: list(users), False: list(answers)}

    def script(request: Request) -> Completion:
        asked.append(request)
        return Completion(text=sides[request.open_user].pop(0), finish_reason="stop")

    task = Magpie.model_validate({"system_field": "system"} | settings)
    (unit,) = played(task, [Seed("s", {"system": COOK}, "seeds.jsonl:1")], folder, script, temperature=1.0)
    return unit, asked


def test_the_model_writes_the_user_and_answers(tmp_path: Path) -> None:
    """First the user's turn after the system turn, then the answer to it, at a temperature of its own."""
    unit, asked = written(tmp_path, [" How long does rice take?\n"], ["Twelve minutes."], answer_temperature=0.0)
    (example,) = unit.examples
    assert [(m.role, m.content) for m in example.messages] == [
        ("system", COOK),
        ("user", "How long does rice take?"),
        ("assistant", "Twelve minutes."),
    ]
    assert [(r.open_user, len(r.messages), r.sampling.temperature) for r in asked] == [(True, 1, 1.0), (False, 2, 0.0)]
    assert example.meta == {"exchanges": 1}


def test_without_a_system_field_it_starts_from_nothing(tmp_path: Path) -> None:
    """The model's own template is all it is given."""
    unit, asked = written(tmp_path, ["Why is the sky blue?"], ["It scatters."], system_field=None)
    assert asked[0].messages == () and asked[0].open_user
    assert [m.role for m in unit.examples[0].messages] == ["user", "assistant"]


def test_several_turns_go_on_the_same_way(tmp_path: Path) -> None:
    """A late failure leaves the whole exchanges before it."""
    unit, asked = written(tmp_path, ["Rice?", "And beans?"], ["Twelve.", "Forty."], turns=2)
    assert [m.content for m in unit.examples[0].messages] == [COOK, "Rice?", "Twelve.", "And beans?", "Forty."]
    assert [m.role for m in asked[2].messages] == ["system", "user", "assistant"]
    unit, _ = written(tmp_path / "late", ["Rice?", ""], ["Twelve."], turns=2)
    (example,) = unit.examples
    assert [m.content for m in example.messages] == [COOK, "Rice?", "Twelve."]
    assert example.meta == {"exchanges": 1, "cut_short": "empty_answer"} and not example.reason


@pytest.mark.parametrize(
    "more", ["\nAssistant: Twelve minutes.", "\n\n**User:** And beans?", "\nassistant\nTwelve.", "\n### AI: Hm."]
)
def test_the_next_turn_is_cut_off(more: str, tmp_path: Path) -> None:
    """A model that writes on past the user's words has not spoilt them."""
    unit, _ = written(tmp_path, [f"How long does rice take?{more}"], ["Twelve."])
    assert unit.examples[0].messages[1].content == "How long does rice take?"


def test_names_inside_an_instruction_stay(tmp_path: Path) -> None:
    """Only a line that begins a turn cuts."""
    text = "Write a letter.\nThe user: a cook.\nAssistants are welcome. <b>Bold</b>, a < b, [INSTALL]"
    unit, _ = written(tmp_path, [text], ["Dear cook."])
    assert unit.examples[0].messages[1].content == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("  ", "empty_answer"),
        ("User:", "empty_answer"),
        ("How long <|im_end|> does", "template_tokens"),
        ("[INST] How long? [/INST]", "template_tokens"),
        ("<start_of_turn>user How long?", "template_tokens"),
        ("How long? </s>", "template_tokens"),
        ("word " * 11, "too_long"),
    ],
)
def test_what_is_no_instruction_is_dropped(text: str, reason: str, tmp_path: Path) -> None:
    """No answer is asked for it, and the row shows it as the user's words."""
    unit, asked = written(tmp_path, [text], [], max_chars=50)
    (example,) = unit.examples
    assert example.reason == reason and len(asked) == 1
    assert [(m.role, m.content) for m in example.messages] == [("system", COOK), ("user", text.strip())]


def test_a_chat_server_is_refused_as_teacher() -> None:
    """It could only answer; the plan is refused before anything is asked."""
    with pytest.raises(UsageError, match="a chat server cannot"):
        Magpie().asks(OpenAI(model="m"))


def test_a_seed_without_a_system_turn_is_refused(tmp_path: Path) -> None:
    """Where a field is named, every row has to fill it."""
    with pytest.raises(UsageError, match=r"seeds\.jsonl:2: system holds no text"):
        next(Magpie(system_field="system").script(Seed("s", {"system": ""}, "seeds.jsonl:2"), None, None))  # type: ignore[arg-type]
