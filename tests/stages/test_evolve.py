"""Evol-Instruct: what is asked round by round, what is dropped, and where the next round begins."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import regex
from pydantic import ValidationError

from pipeline.component import file_digest
from pipeline.engines import Completion, Request
from pipeline.errors import UsageError
from pipeline.records import Seed, digest
from stages.tasks.base import Example
from stages.tasks.evolve import OPERATIONS, Evolve
from tests.helpers import Script
from tests.stages.scripted import played

START = "How do plants eat?"
SEED = Seed("s", {"prompt": START}, "seeds.jsonl:1")


def teacher(evolved: Any = None, verdict: str = "different", reply: str = "They take in light and water.") -> Script:
    """Evolves by a word for each round, finds prompts different, answers all alike."""

    def script(request: Request) -> Completion:
        last = request.messages[-1].content
        if request.choices:
            text = verdict
        elif request.json_schema:
            parent = last.split(">\n")[1].split("\n</text")[0]
            text = json.dumps({"prompt": evolved(parent) if evolved else f"{parent} And why?"}, ensure_ascii=False)
        else:
            text = reply
        return Completion(text=text, finish_reason="stop", completion_tokens=9)

    return script


def rows(folder: Path, script: Script, **settings: Any) -> list[Example]:
    """What one seed brings."""
    (unit,) = played(Evolve(**settings), [SEED], folder, script)
    return unit.examples


def test_every_round_is_an_example(tmp_path: Path) -> None:
    """Each round evolves the last good prompt, and its answer is asked for with the evolved prompt alone."""
    one, two = rows(tmp_path, teacher(), operations={"deepen": 1})
    assert [[m.content for m in e.messages] for e in (one, two)] == [
        [f"{START} And why?", "They take in light and water."],
        [f"{START} And why? And why?", "They take in light and water."],
    ]
    assert [e.meta["evolve"] for e in (one, two)] == [
        {"round": 1, "operation": "deepen", "parent": START},
        {"round": 2, "operation": "deepen", "parent": f"{START} And why?"},
    ]
    assert not one.reason and not two.reason


@pytest.mark.parametrize(
    ("script", "reason", "questions"),
    [
        (teacher(lambda parent: parent.upper()), "no_gain", 1),
        (teacher(lambda parent: "..."), "says_nothing", 1),
        (teacher(verdict="equal"), "no_gain", 2),
        (teacher(verdict="perhaps"), "no_verdict", 2),
        (teacher(lambda parent: " "), "empty_answer", 1),
        (teacher(lambda parent: f"The rewritten prompt: {parent} Why?"), "leaked_prompt", 1),
        (teacher(lambda parent: f"#The New Request#: {parent} Why?"), "leaked_prompt", 1),
        (teacher(lambda parent: f"<text-{digest(parent, 8)}> {parent} Why?"), "leaked_prompt", 1),
        (teacher(lambda parent: f"고쳐 쓴 요청: {parent}"), "leaked_prompt", 1),
        (teacher(lambda parent: "Tell me what a person asked an assistant."), "leaked_prompt", 1),
        (teacher(reply="I'm sorry, but I cannot help with that."), "refusal", 3),
        (teacher(reply="죄송하지만 그 질문에는 답해 드릴 수 없습니다."), "refusal", 3),
        (teacher(reply="..., !"), "says_nothing", 3),
        (teacher(reply="It is the."), "says_nothing", 3),
        (teacher(reply=" "), "empty_answer", 3),
        (teacher(reply="Sorry for the wait. " + "Plants make sugar from light. " * 20), "", 3),
        (teacher(reply="42"), "", 3),
        (teacher(reply="미안해하는 사람에게는 이렇게 말해 보세요."), "", 3),
    ],
)
def test_what_is_eliminated(tmp_path: Path, script: Script, reason: str, questions: int) -> None:
    """Prompts that gained nothing or tell of the evolving, answers that refuse or say nothing; as early as it shows."""
    (unit,) = played(Evolve(rounds=1), [SEED], tmp_path, script)
    assert [e.reason for e in unit.examples] == [reason]
    assert unit.spent.requests == questions


def test_words_of_the_seed_are_no_leak(tmp_path: Path) -> None:
    """A prompt about prompts may go on being about prompts."""
    seed = SEED._replace(fields={"prompt": "Is this a good new prompt for an image model?"})
    (unit,) = played(Evolve(), [seed], tmp_path, teacher())
    assert [e.reason for e in unit.examples] == ["", ""]


def test_a_failed_round_goes_on_from_the_last_good_prompt(tmp_path: Path) -> None:
    """Three rounds, the second of which brings nothing new: the third has the first one's prompt as parent."""
    turn = iter([" Why?", "", " Where?"])
    one, two, three = rows(tmp_path, teacher(lambda parent: parent + next(turn)), rounds=3)
    assert [e.reason for e in (one, two, three)] == ["", "no_gain", ""]
    assert two.meta["evolve"]["parent"] == three.meta["evolve"]["parent"] == f"{START} Why?"
    assert three.messages[0].content == f"{START} Why? Where?"


def test_a_row_that_failed_shows_what_was_asked(tmp_path: Path) -> None:
    """A teacher that gives no answer leaves the question of each round, and the rows say which operation it was."""
    one, two = rows(tmp_path, lambda request: Completion(error="too long"))
    assert one.reason == two.reason == "no_answer"
    assert START in one.messages[0].content and one.meta["evolve"]["parent"] == two.meta["evolve"]["parent"] == START


def test_operations_are_drawn_by_weight() -> None:
    """A weight of 0 is never drawn; twice the weight comes about twice as often; the same chance draws the same."""
    task = Evolve(operations={"breadth": 2, "deepen": 1, "reasoning": 0})

    def drawn(n: int) -> str:
        (question,) = next(task.script(SEED, random.Random(n), None))  # type: ignore[misc]
        text = question.messages[-1].content
        return "breadth" if "Invent another" in text else "deepen" if "more of its subject" in text else "other"

    counts = [drawn(n) for n in range(300)]
    assert "other" not in counts
    assert 160 < counts.count("breadth") < 240
    assert counts[:9] == [drawn(n) for n in range(9)]


def test_the_verdict_is_asked_without_chance(tmp_path: Path) -> None:
    """Temperature 0 and a choice of two for the comparison; the stage's own sampling for the rest."""
    asked: list[Request] = []

    def script(request: Request) -> Completion:
        asked.append(request)
        return teacher()(request)

    played(Evolve(rounds=1), [SEED], tmp_path, script, temperature=0.9)
    assert [(r.choices, r.sampling.temperature) for r in asked] == [((), 0.9), (("equal", "different"), 0.0), ((), 0.9)]


@pytest.mark.parametrize("prompt", [None, " ", ["a"], {"role": "user"}])
def test_a_bad_seed_is_named(prompt: Any) -> None:
    """Where it was read, before anything is asked."""
    with pytest.raises(UsageError, match=r"seeds\.jsonl:1: prompt holds no prompt"):
        next(Evolve().script(SEED._replace(fields={"prompt": prompt}), random.Random(1), None))


def test_settings_that_leave_nothing_to_do() -> None:
    """Some operation has to have a weight, and it has to be one there is."""
    with pytest.raises(ValidationError, match="no weight above 0"):
        Evolve(operations={"deepen": 0})
    with pytest.raises(ValidationError, match="widen"):
        Evolve.model_validate({"operations": {"widen": 1}})


@pytest.mark.parametrize(("language", "letters"), [("en", "Latin"), ("ko", "Hangul")])
def test_the_prompts_of_a_language(language: Any, letters: str) -> None:
    """Each operation has a bundled prompt in its language, whose content is part of what names a version."""
    task = Evolve(language=language)
    assert set(task.prompts) == set(OPERATIONS)
    for file in (*task.prompts.values(), task.equal_prompt):
        assert file.stem == language and regex.search(rf"\p{{{letters}}}{{2}}", file.read_text(encoding="utf-8"))
    assert task.identity()["prompts"]["deepen"] == {"sha256": file_digest(task.prompts["deepen"])}


def test_an_own_prompt_replaces_one(tmp_path: Path) -> None:
    """The other operations keep theirs; its needs are met by the source's fields or by what the task gives."""
    (tmp_path / "own.md").write_text("---\nabout: x\nneeds: [prompt, field]\n---\n>>> user\n{{ prompt }} {{ field }}\n")
    task = Evolve.model_validate({"prompts": {"deepen": tmp_path / "own.md"}})
    assert task.prompts["breadth"] == Evolve().prompts["breadth"]
    task.require({"prompt", "field"})
    with pytest.raises(UsageError, match="needs 'field', which nothing gives it"):
        task.require({"prompt"})
