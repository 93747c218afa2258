"""Lines of batch files and logs: what was asked, what was answered, and what went wrong."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.engines.batch import parse, request_line
from tests.scripted_server import answer

GROQ = Path(__file__).resolve().parents[3] / "shared/data/openai_batch_groq"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parsed(**row: Any) -> Any:
    """One line, read."""
    return parse(orjson.dumps(row))


@pytest.mark.skipif(not GROQ.is_dir(), reason="the recorded batch of a provider is not on this machine")
def test_a_providers_own_files() -> None:
    """Input and output of a real batch pair up by id, out of order as they come, and every answer is whole."""
    asked = {line.custom_id: line for line in map(parse, (GROQ / "batch_input.jsonl").read_bytes().splitlines())}
    answered = [parse(line) for line in (GROQ / "batch_output.jsonl").read_bytes().splitlines()]
    assert [line.custom_id for line in answered] == ["request-2", "request-3", "request-1"]
    assert {line.custom_id for line in answered} == asked.keys()
    assert asked["request-1"].body["messages"][1]["content"] == "What is 2+2?"
    assert asked["request-1"].problem == "no response"
    by_id = {line.custom_id: line.completion() for line in answered}
    assert by_id["request-1"].text and not by_id["request-1"].error
    hola = by_id["request-2"]
    assert hola.text.startswith('"Hola, ¿cómo estás hoy?"')
    assert (hola.finish_reason, hola.prompt_tokens, hola.completion_tokens) == ("stop", 55, 76)


def test_what_is_written_is_read() -> None:
    """A line of the input says whom it asks what."""
    line = parse(request_line("k-7", ASKED))
    assert (line.custom_id, line.body) == ("k-7", ASKED)


@pytest.mark.parametrize(
    "row",
    [
        {"custom_id": "a", "response": {"status_code": 200, "body": answer("hi")}, "error": None},
        {"custom_id": "a", "request": ASKED, "response": answer("hi")},
        {"custom_id": "a", "body": ASKED, "response": answer("hi")},
        {"custom_id": "a", "request": {"method": "POST", "body": ASKED}, "response": {"body": answer("hi")}},
    ],
    ids=["batch output", "log", "log with body", "log of calls"],
)
def test_answers_lie_in_several_shapes(row: dict[str, Any]) -> None:
    """With the HTTP status around it or not, with what was asked beside it or not."""
    line = parsed(**row)
    assert line.body == (ASKED if len(row) == 3 and "error" not in row else {})
    completion = line.completion()
    assert completion.text == answer("hi")["choices"][0]["message"]["content"]
    assert completion.prompt_tokens == 2


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"response": None, "error": {"code": "batch_expired", "message": "It expired."}}, "It expired."),
        ({"response": {"status_code": 400, "body": None}, "error": {"error": {"message": "too long"}}}, "too long"),
        ({"response": {"status_code": 429, "body": {"error": {"message": "slow down"}}}}, "HTTP 429: slow down"),
        ({"response": {"status_code": 500, "body": {}}, "error": None}, "HTTP 500: {}"),
        ({"response": {"status_code": 200, "body": {}}, "error": None}, "no response"),
        ({"error": "Request must not be sent in stream mode"}, "Request must not be sent in stream mode"),
        ({"response": {"choices": []}}, "unreadable response (ValueError)"),
        ({"response": {"choices": [{"message": "hi"}]}}, "unreadable response (AttributeError)"),
        ({"response": {"choices": [{}]}}, "unreadable response (KeyError)"),
        ({"response": {"choices": 7}}, "unreadable response (TypeError)"),
    ],
)
def test_what_went_wrong_is_the_completions_error(row: dict[str, Any], says: str) -> None:
    """An error line, another status, an empty or a shapeless response: an error in words, never an answer."""
    completion = parsed(custom_id="a", **row).completion()
    assert completion.error.startswith(says) and not completion.text


@pytest.mark.parametrize("line", [b'{"custom_id": "a", "resp', b"[]", b"3", b"", b"\xff\xfe"])
def test_a_torn_line_is_no_line(line: bytes) -> None:
    """What is no JSON object is refused."""
    with pytest.raises(ValueError):
        parse(line)


def test_a_strange_id_is_none() -> None:
    """An id that is no text cannot be one of ours."""
    assert parsed(custom_id=7, response=answer("hi")).custom_id == ""
    assert parsed(response=answer("hi")).custom_id == ""
