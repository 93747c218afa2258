"""Conversations of several turns, both sides played by the teacher."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from pydantic import ValidationError

from pipeline.engines import Completion, Request
from pipeline.errors import UsageError
from pipeline.records import Seed
from stages.scripts import Unit
from stages.tasks.dialogue import Dialogue
from tests.stages.scripted import played

FIELDS = {"prompt": "How do I boil an egg?", "persona": "a sailor on a small boat"}


def says(message: str, done: bool | None = None) -> str:
    """The simulated user's words; `done` only where the user may end the talk."""
    return orjson.dumps({"message": message} | ({} if done is None else {"done": done})).decode()


def talk(folder: Path, users: list[str], answers: list[str], **settings: object) -> tuple[Unit, list[Request]]:
    """A conversation whose two sides say these things in turn."""
    asked: list[Request] = []
    sides = {True: list(users), False: list(answers)}

    def script(request: Request) -> Completion:
        asked.append(request)
        return Completion(text=sides[request.json_schema is not None].pop(0), finish_reason="stop")

    (unit,) = played(Dialogue.model_validate(settings), [Seed("s", FIELDS, "seeds.jsonl:1")], folder, script)
    return unit, asked


def test_both_sides_take_turns(tmp_path: Path) -> None:
    """The assistant sees the conversation; the user's side sees a fenced transcript and who the user is."""
    users = [says("How long?"), says("User: And without a pot?", False)]
    answers = ["Boil it.", "Seven minutes.", "Use a tin."]
    unit, asked = talk(tmp_path, users, answers, persona_field="persona")
    (example,) = unit.examples
    said = [(m.role, m.content) for m in example.messages]
    assert said == [
        ("user", FIELDS["prompt"]), ("assistant", "Boil it."), ("user", "How long?"), ("assistant", "Seven minutes."),
        ("user", "And without a pot?"), ("assistant", "Use a tin."),
    ]  # fmt: skip
    assert example.meta == {"exchanges": 3}
    assert [m.content for m in asked[2].messages] == [text for _, text in said[:3]]
    wanted = asked[3].messages[-1].content
    assert "a sailor on a small boat" in wanted
    assert "User: How long?\n\nAssistant: Seven minutes.\n</conversation-" in wanted
    assert example.by and example.by.answered.completion.text == "Use a tin."


def test_without_a_persona_none_is_asked_for(tmp_path: Path) -> None:
    """Anybody may be the user; the labels follow the prompts' language."""
    _, asked = talk(tmp_path, [says("", done=True)], ["Boil it."], language="ko", min_turns=1)
    wanted = asked[1].messages[-1].content
    assert "이런 사람입니다" not in wanted
    assert f"사용자: {FIELDS['prompt']}\n\n도우미: Boil it." in wanted


def test_the_user_may_end_the_talk(tmp_path: Path) -> None:
    """What was said until then is the example."""
    unit, _ = talk(tmp_path, [says("How long?"), says("Thanks!", done=True)], ["Boil it.", "Seven minutes."])
    (example,) = unit.examples
    assert example.messages[-1].content == "Seven minutes."
    assert example.meta == {"exchanges": 2} and not example.reason


@pytest.mark.parametrize(
    ("users", "answers", "why"),
    [
        ([says("Assistant: Seven minutes.")], ["Boil it."], "spoke_as_assistant"),
        ([says("How can I help you with eggs?")], ["Boil it."], "spoke_as_assistant"),
        ([says("네, 도와드리겠습니다.")], ["Boil it."], "spoke_as_assistant"),
        ([says("how do I BOIL an egg?")], ["Boil it."], "repeated_turn"),
        ([says("Boil it.")], ["Boil it."], "repeated_turn"),
        ([says("User:  ")], ["Boil it."], "empty_turn"),
        (["And then?"], ["Boil it."], "not_json"),
        ([says("And then?")], ["Boil it.", "boil it."], "repeated_turn"),
        ([says("And then?")], ["Boil it.", ""], "empty_answer"),
    ],
)
def test_a_late_failure_leaves_the_whole_exchanges(
    users: list[str], answers: list[str], why: str, tmp_path: Path
) -> None:
    """The example ends with an assistant's turn and says why it was cut short; what made it is that turn."""
    unit, _ = talk(tmp_path, users, answers)
    (example,) = unit.examples
    assert [m.content for m in example.messages] == [FIELDS["prompt"], "Boil it."]
    assert example.meta == {"exchanges": 1, "cut_short": why}
    assert not example.reason
    assert example.by and example.by.answered.completion.text == "Boil it."


def test_words_that_only_look_like_an_assistants_pass(tmp_path: Path) -> None:
    """A user may speak about help and about AI."""
    unit, _ = talk(tmp_path, [says("Can an AI help me with the ai: tag?")], ["Boil it.", "Yes."], turns=2)
    assert unit.examples[0].meta == {"exchanges": 2}


def test_the_user_may_not_end_the_talk_at_once(tmp_path: Path) -> None:
    """Before `min_turns` exchanges neither prompt nor schema speak of an end."""
    _, asked = talk(tmp_path, [says("How long?"), says("", True)], ["Boil it.", "Seven minutes."])
    first, second = (request for request in asked if request.json_schema)
    assert (first.json_schema or {})["required"] == ["message"]
    assert (second.json_schema or {})["required"] == ["message", "done"]
    assert '"done"' not in first.messages[-1].content and '"done"' in second.messages[-1].content
    with pytest.raises(ValidationError, match="above turns"):
        Dialogue(turns=2, min_turns=3)


def test_nothing_is_kept_where_the_first_answer_fails(tmp_path: Path) -> None:
    """The row is dropped for the answer's own reason."""
    unit, _ = talk(tmp_path, [], [""])
    (example,) = unit.examples
    assert example.reason == "empty_answer"
    assert [m.content for m in example.messages] == [FIELDS["prompt"], ""]


def test_a_seed_without_its_persona_is_refused_before_asking(tmp_path: Path) -> None:
    """The error names the row."""
    task = Dialogue(persona_field="persona")
    script: Callable[[Request], Completion] = lambda request: Completion(text="x", finish_reason="stop")  # noqa: E731
    with pytest.raises(UsageError, match=r"seeds\.jsonl:3: persona holds no text"):
        played(task, [Seed("s", {"prompt": "Hi", "persona": " "}, "seeds.jsonl:3")], tmp_path, script)
    with pytest.raises(UsageError, match="asks with the field 'persona'"):
        task.require({"prompt"})
