"""doc_qa: pairs rest on words of the passage, stand alone where they have to, and none is lost."""

from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from pipeline.engines import Completion, Request
from pipeline.errors import UsageError
from pipeline.records import Seed
from prompts import bundled_prompt, load
from stages.tasks.alone import reference
from stages.tasks.base import Example
from stages.tasks.doc_qa import DocQA
from tests.helpers import Script
from tests.stages.scripted import played

TEXT = (
    "## Kites\n\nA **kite** flies on a [string](https://example.org/string) of “linen”, 30 metres\nlong.\n"
    "국장은 2급 또는\n3급으로 임명한다."
)
FIELDS = {"text": TEXT, "title": "Toys", "headings": ["Toys", "Kites"], "path": "toys.md", "chunk": 0}
QUOTE = "A kite flies on a string"


def pair(
    question: str = "What does a kite fly on?", answer: str = "On a string.", quote: str = QUOTE
) -> dict[str, str]:
    """A pair that is kept."""
    return {"question": question, "answer": answer, "quote": quote}


def says(*pairs: dict[str, str]) -> Script:
    """A teacher with these pairs."""
    said = orjson.dumps({"pairs": pairs}).decode()
    return lambda request: Completion(text=said, finish_reason="stop")


def made(folder: Path, *pairs: dict[str, str], fields: dict[str, Any] = FIELDS, **settings: Any) -> list[Example]:
    """What a passage brings."""
    (unit,) = played(DocQA(**settings), [Seed("s", fields, "toys.md#0")], folder, says(*pairs))
    return unit.examples


def test_every_pair_is_an_example(tmp_path: Path) -> None:
    """A question as the user's turn, an answer, and the quote beside them; fewer than asked for is fine."""
    first, second = made(tmp_path, pair(), pair("How long is it?", "30 metres.", "30 metres long"))
    assert [(m.role, m.content) for m in first.messages] == [
        ("user", "What does a kite fly on?"),
        ("assistant", "On a string."),
    ]
    assert (first.reason, first.meta) == ("", {"quote": QUOTE})
    assert (second.reason, second.meta["quote"]) == ("", "30 metres long")


def test_with_the_passage_before_it_the_question_may_speak_of_it(tmp_path: Path) -> None:
    """`context: before` puts the passage into the user's turn."""
    (example,) = made(tmp_path, pair("What does the passage say a kite flies on?"), context="before")
    assert example.reason == ""
    assert example.messages[0].content == f"{TEXT}\n\nWhat does the passage say a kite flies on?"
    (alone,) = made(tmp_path, pair("What does the passage say a kite flies on?"))
    assert (alone.reason, alone.detail) == ("refers_to_text", "the passage say")


@pytest.mark.parametrize(
    "quote",
    [
        'a KITE flies on a string of "linen", 30 metres long.',
        "A **kite** flies on a [string](https://example.org/string)",
        "string of ‘linen’",
        "30\u00a0metres  long!",
        "３０ metres long",
        "국장은 2급 또는 3급으로 임명한다",
        "국장은 2급또는3급으로 임명한다.",
    ],
)
def test_a_quote_is_found_whatever_its_spacing_and_quotation_marks(quote: str, tmp_path: Path) -> None:
    """White space, quotation marks, markup, case and the form of letters make no difference."""
    (example,) = made(tmp_path, pair(quote=quote))
    assert example.reason == ""


@pytest.mark.parametrize(
    ("quote", "reason"),
    [
        ("A kite flies on a rope", "quote_not_found"),
        ("국장은 1급으로 임명한다", "quote_not_found"),
        ("kite", "quote_too_short"),
        ("2급", "quote_too_short"),
        ("…", "quote_too_short"),
        ("", "quote_too_short"),
    ],
)
def test_a_quote_that_proves_nothing_drops_its_pair(quote: str, reason: str, tmp_path: Path) -> None:
    """Invented, empty, or so short that any text would hold it; the pairs beside it stay."""
    bad, good = made(tmp_path, pair(quote=quote), pair("How long is it?", "30 metres.", "30 metres long"))
    assert (bad.reason, bad.detail) == (reason, quote)
    assert good.reason == ""


def test_a_repeated_question_is_dropped(tmp_path: Path) -> None:
    """The first of equal questions is kept, whatever their case and spacing."""
    examples = made(tmp_path, pair(), pair("what does a kite  fly on?"), pair("What is linen for?"))
    assert [example.reason for example in examples] == ["", "repeated_question", ""]


@pytest.mark.parametrize(("question", "answer"), [("", "Yes."), ("What?", " "), ("**", "Yes.")])
def test_an_empty_pair_is_dropped(question: str, answer: str, tmp_path: Path) -> None:
    """A question without words, or an answer without, is none."""
    (example,) = made(tmp_path, pair(question, answer))
    assert example.reason == "empty_pair"


def test_no_pairs_are_a_dropped_row(tmp_path: Path) -> None:
    """A teacher who finds nothing to ask leaves a row that says so."""
    (example,) = made(tmp_path)
    assert example.reason == "no_pairs"
    assert [message.role for message in example.messages] == ["system", "user", "assistant"]  # without the shots
    assert example.messages[-1].content == '{"pairs":[]}'


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("I cannot.", "not_json"),
        ('{"pairs": [{"question": "a"}]}', "wrong_shape"),
        ("", "empty_answer"),
    ],
)
def test_what_is_no_pairs_is_dropped_with_its_reason(said: str, reason: str, tmp_path: Path) -> None:
    """An unreadable answer is asked again, then dropped."""
    asked: list[Request] = []

    def teacher(request: Request) -> Completion:
        asked.append(request)
        return Completion(text=said, finish_reason="stop")

    (unit,) = played(DocQA(), [Seed("s", FIELDS, "toys.md#0")], tmp_path, teacher, retries=1)
    assert [example.reason for example in unit.examples] == [reason]
    assert len(asked) == 2


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_teacher_sees_the_passage_and_where_it_stands(language: str, tmp_path: Path) -> None:
    """Title and headings once each, the number of pairs, a fence; standing alone is asked for where it matters."""
    asked: list[Request] = []

    def teacher(request: Request) -> Completion:
        asked.append(request)
        return says(pair())(request)

    for context in ("none", "before"):
        task = DocQA.model_validate({"language": language, "context": context, "pairs": 2})
        played(task, [Seed("s", FIELDS, "toys.md#0")], tmp_path, teacher)
    alone, before = (f"{one.messages[0].content}\n{one.messages[-1].content}" for one in asked)
    assert TEXT in alone and "Toys > Kites" in alone and "2" in alone and "<passage-" in alone
    assert len(before) < len(alone)
    schema = asked[0].json_schema
    assert schema is not None
    jsonschema.validate({"pairs": [pair(), pair()]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"pairs": [pair()] * 3}, schema)


def test_a_passage_without_title_and_headings_will_do(tmp_path: Path) -> None:
    """Any source with a text is one to ask about."""
    (example,) = made(tmp_path, pair(), fields={"body": TEXT}, field="body")
    assert example.reason == ""
    DocQA(field="body").require({"body"})
    with pytest.raises(UsageError, match="text"):
        DocQA().require({"texts"})


def test_a_seed_without_text_is_named(tmp_path: Path) -> None:
    """Before anything is asked."""
    with pytest.raises(UsageError, match=r"toys\.md#0"):
        made(tmp_path, pair(), fields={"text": "  "})


def test_an_own_prompt_says_what_it_needs(tmp_path: Path) -> None:
    """A prompt file may ask for any field of the source, and for no other; it counts by its content."""
    own = tmp_path / "ask.md"
    own.write_text("---\nabout: x\nneeds: [text, pairs, path]\n---\n>>> user\n{{ path }} {{ pairs }} {{ text }}\n")
    task = DocQA(prompt=own)
    task.require({"text", "path"})
    with pytest.raises(UsageError, match="path"):
        task.require({"text"})
    assert len({str(one.identity()) for one in (task, DocQA(), DocQA(language="ko"))}) == 3
    assert DocQA().prompt_name.startswith("en@") and DocQA(language="ko").prompt_name.startswith("ko@")


REFERRING = [
    "What does the passage say about foxes?", "According to the text, who won?", "What is described in the article?",
    "Based on this document, what is X?", "What is the main idea of the text?", "What is mentioned in this section?",
    "What is the purpose of the given passage?", "What does the author recommend?", "What is stated above?",
    "본문에서 설명하는 방법은 무엇인가요?", "위 글의 주제는 무엇인가요?", "이 문서에 따르면 누가 위원장이 되나요?",
    "주어진 텍스트의 내용은?", "윗글에서 언급된 것은?", "위에서 언급한 방법은 무엇인가요?", "본문은 무엇을 다루나요?",
]  # fmt: skip
STANDING_ALONE = [
    "How do you center the text in CSS?", "What does the text encoder of CLIP do?",
    "How is the context manager closed?",
    "What is a document object model?", "Who is the author of Hamlet?", "How do you open the page in a browser?",
    "제3조 본문에서 정하는 자는 누구인가요?", "메일 본문은 어떻게 작성하나요?", "문서 분류는 어떻게 하나요?",
    "지문 인식은 어떻게 작동하나요?", "이 글꼴은 무엇인가요?", "위 절제술은 언제 하나요?",
    "문단 나누기는 어떻게 하나요?",
]  # fmt: skip


@pytest.mark.parametrize("question", REFERRING)
def test_a_question_about_a_text_out_of_sight_is_seen(question: str) -> None:
    """In English and in Korean."""
    assert reference(question)


@pytest.mark.parametrize("question", STANDING_ALONE)
def test_a_question_about_texts_in_general_is_not(question: str) -> None:
    """Editors, laws and encoders speak of texts, pages and 본문 too."""
    assert not reference(question)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_bundled_example_keeps_its_own_rules(language: str, tmp_path: Path) -> None:
    """What the prompt shows the teacher would not be dropped."""
    values = {"text": "", "place": "", "pairs": 2, "alone": True, "fence": ""}
    _, passage, said, _ = load(bundled_prompt("doc_qa", language)).render(values)
    pairs = orjson.loads(said.content)["pairs"]
    assert [example.reason for example in made(tmp_path, *pairs, fields={"text": passage.content})] == ["", ""]
