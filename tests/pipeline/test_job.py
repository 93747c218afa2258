"""Asking: answers in the order of the requests, each equal request asked once, every answer remembered first."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines import Answered, Completion, Engine, Request
from pipeline.engines.replay import Replay
from pipeline.errors import DataError, UsageError
from pipeline.job import Job
from pipeline.memo import Memo
from pipeline.records import Message
from pipeline.run import Run
from tests.helpers import WORDS, empty_recording, stub_model


def ask(text: str, id: str = "") -> Request:
    return Request(id=id or text, messages=(Message(role="user", content=text),))


class Hurried:
    """A session that reads `ahead` requests and answers the newest first."""

    def __init__(self, ahead: int) -> None:
        self.ahead, self.asked, self.closed = ahead, list[str](), 0

    def complete(self, requests: Iterable[Request]) -> Iterator[list[Answered]]:
        """Every request once, out of order."""
        held: list[Request] = []
        for request in requests:
            held.append(request)
            self.asked.append(request.messages[0].content)
            if len(held) >= self.ahead:
                yield [self._answer(held.pop())]
        while held:
            yield [self._answer(held.pop())]

    def _answer(self, request: Request) -> Answered:
        said = request.messages[0].content
        return Answered(request, Completion(error="no") if said == "bad" else Completion(text=f"to {said}"))

    def close(self) -> None:
        """Counted."""
        self.closed += 1


@pytest.fixture
def engine(tmp_path: Path) -> Replay:
    return Replay(model=str(stub_model(tmp_path / "model")), recording=empty_recording(tmp_path / "r.jsonl"))


@pytest.fixture(params=[1, 3, 1000])
def session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Hurried:
    """Sessions that read one, a few, or all requests ahead."""
    made = Hurried(request.param)
    monkeypatch.setattr(Replay, "open", lambda self, log=None: made)
    return made


def job(tmp_path: Path, engine: Engine | None) -> Job:
    run = Run(tmp_path / "run")
    run.create()
    return Job(run, 0, engine)


def test_answers_come_in_order(tmp_path: Path, engine: Replay, session: Hurried) -> None:
    """However the engine orders its answers, they come back as asked, each to its own request."""
    wanted = [ask(str(n)) for n in range(300)]
    answered = list(job(tmp_path, engine).ask(None, wanted))
    assert [a.request for a in answered] == wanted
    assert all(a.completion.text == f"to {a.request.id}" for a in answered)


def test_equal_requests_are_asked_once(tmp_path: Path, engine: Replay, session: Hurried) -> None:
    """Equal requests get one answer between them, however far ahead the engine reads."""
    wanted = [ask(f"{n % 7}", id=str(n)) for n in range(40)]
    answered = list(job(tmp_path, engine).ask(None, wanted))
    assert [a.request.id for a in answered] == [str(n) for n in range(40)]
    assert all(a.completion.text == f"to {int(a.request.id) % 7}" for a in answered)
    assert sorted(session.asked) == [str(n) for n in range(7)]


def test_the_memo_answers_the_second_time(tmp_path: Path, engine: Replay, session: Hurried) -> None:
    """Another job over the same run asks only what is new, and keeps the order."""
    list(job(tmp_path, engine).ask(None, [ask(str(n)) for n in range(0, 20, 2)]))
    session.asked.clear()
    second = job(tmp_path, engine)
    answered = list(second.ask(None, [ask(str(n)) for n in range(20)]))
    assert [a.completion.text for a in answered] == [f"to {n}" for n in range(20)]
    assert sorted(map(int, session.asked)) == list(range(1, 20, 2))
    assert (second.usage["asked"], second.usage["remembered"]) == (10, 10)


def test_an_error_is_not_remembered(tmp_path: Path, engine: Replay, session: Hurried) -> None:
    """A request that failed comes back with its error, and is asked again next time."""
    (answered,) = job(tmp_path, engine).ask(None, [ask("bad")])
    assert answered.completion.error == "no"
    list(job(tmp_path, engine).ask(None, [ask("bad")]))
    assert session.asked == ["bad", "bad"]


def test_an_answer_is_durable_before_it_is_seen(tmp_path: Path, engine: Replay, session: Hurried) -> None:
    """Whoever stops after the first answer finds it in the memo."""
    first = next(job(tmp_path, engine).ask(None, [ask(str(n)) for n in range(5)]))
    with Memo(tmp_path / "run/memo.sqlite") as memo:
        place = first.request.key(WORDS), first.request.sampling.max_tokens
        assert memo.get([place])[place] == first.completion


def test_one_chain_of_two_questions(tmp_path: Path, engine: Replay, session: Hurried) -> None:
    """What one ask answers may feed another over the same engine, lazily."""
    both = job(tmp_path, engine)
    first = (a.completion.text for a in both.ask(None, [ask(str(n)) for n in range(30)]))
    second = list(both.ask(None, (ask(f"about {text}") for text in first)))
    assert [a.completion.text for a in second] == [f"to about to {n}" for n in range(30)]


def test_nothing_to_ask_opens_nothing(tmp_path: Path, engine: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    """No requests, or only remembered ones, load no model."""

    def opened(self: Any, log: Any = None) -> Any:
        raise AssertionError("the engine was opened")

    monkeypatch.setattr(Replay, "open", opened)
    assert list(job(tmp_path, engine).ask(None, [])) == []


def test_engines_are_closed_once(tmp_path: Path, engine: Replay, session: Hurried) -> None:
    """Closing a job closes its engines; the same engine was opened once."""
    mine = job(tmp_path, engine)
    list(mine.ask(None, [ask("a")]))
    list(mine.ask(engine, [ask("b")]))
    mine.close()
    mine.close()
    assert session.closed == 1


def test_no_teacher_is_said(tmp_path: Path) -> None:
    """Asking the teacher of a plan without one is a mistake of the plan."""
    with pytest.raises(UsageError, match="the plan has no teacher"):
        list(job(tmp_path, None).ask(None, [ask("a")]))


def test_a_recording_answers_only_what_was_recorded(tmp_path: Path, engine: Replay) -> None:
    """A request that is not in the recording is answered with an error, never made up."""
    (answered,) = job(tmp_path, engine).ask(None, [ask("a")])
    assert answered.completion == Completion(error="not in the recording")


@pytest.mark.parametrize(
    ("content", "says"), [("{}\n", "r.jsonl:1 has no `words`"), ("", "r.jsonl:1 is not JSON"), ("x", "is not JSON")]
)
def test_a_recording_without_its_header_is_refused(tmp_path: Path, engine: Replay, content: str, says: str) -> None:
    """A recording whose first line does not name the engine is no recording."""
    (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(DataError, match=says):
        engine.words()


@pytest.mark.parametrize("line", ["{", "[]", '{"key": "k"}', '{"key": "k", "completion": 3}'])
def test_a_broken_line_of_a_recording_is_named(tmp_path: Path, engine: Replay, line: str) -> None:
    """A line that is no completion is refused with its number."""
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match=r"r\.jsonl:2"):
        engine.open()
