"""What a vLLM session does when its engine dies or runs out of memory, over an engine that dies on command."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import console
from pipeline.engines import Request, vllm_session
from pipeline.engines.base import Answered
from pipeline.engines.inflight import InFlight
from pipeline.engines.vllm_core import Core, Failure
from pipeline.engines.vllm_session import IN_A_ROW, VllmSession
from pipeline.errors import ModelError
from pipeline.models import Model
from pipeline.records import Message

MODEL = Model("tiny", "tiny", "1", "Apache-2.0", local=True)
Deadly = Callable[[list[str], int], str]
TOKENIZER = SimpleNamespace(apply_chat_template=lambda messages, **_: [1] * len(messages[0]["content"]))


class Dying(Core):
    """An engine that answers a request in three steps, and dies where `deadly` gives a reason for it.

    `deadly` is asked with the words of what is in the engine and with max_num_seqs, at every step.
    """

    deadly: Deadly = staticmethod(lambda words, sequences: "")
    loads: Deadly = staticmethod(lambda words, sequences: "")
    opened: list[int]
    decoded: list[str]

    def _load(self) -> Failure | None:
        if why := type(self).loads([], self.max_num_seqs):
            return Failure.of(RuntimeError(why))
        type(self).opened.append(self.max_num_seqs)
        config = SimpleNamespace(max_model_len=1000)
        self.llm = SimpleNamespace(get_tokenizer=lambda: TOKENIZER, model_config=config)
        self.steps: dict[str, int] = {}
        self.words: dict[str, str] = {}
        return None

    def add(self, serial: str, ids: list[int], request: Request) -> str:
        """Into the engine."""
        assert self.llm is not None
        self.steps[serial], self.words[serial] = 3, request.messages[0].content
        return ""

    def step(self) -> list[tuple[str, Any]]:
        """As many as may run come a step nearer to their end."""
        running = list(self.steps)[: self.max_num_seqs]
        if why := type(self).deadly([self.words[s] for s in running], self.max_num_seqs):
            raise RuntimeError(why)
        done = []
        for serial in running:
            self.steps[serial] -= 1
            if not self.steps[serial]:
                del self.steps[serial]
                text = self.words.pop(serial)
                type(self).decoded.append(text)
                answer = SimpleNamespace(text=text.upper(), token_ids=[1], finish_reason="stop", logprobs=None)
                done.append((serial, SimpleNamespace(outputs=[answer], prompt_token_ids=[1])))
        return done

    def abort(self, serials: list[str]) -> None:
        """Out of the engine."""
        for serial in serials:
            del self.steps[serial]

    def close(self) -> None:
        """Gone."""
        self.llm = None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Dying]:
    """The class of the engines that sessions open in this test."""
    made = type("Made", (Dying,), {"opened": [], "decoded": []})
    monkeypatch.setattr(vllm_session, "Core", made)
    return made


def session(sequences: int = 4, log: Path | None = None) -> VllmSession:
    """An open session."""
    return VllmSession(MODEL, {"max_num_seqs": sequences}, log)


def asks(*words: str) -> list[Request]:
    """A request for each word."""
    return [Request(id=w, messages=(Message(role="user", content=w),)) for w in words]


def told(answers: Iterator[list[Answered]]) -> dict[str, str]:
    """Text or error by request; every request is answered once."""
    found: dict[str, str] = {}
    for batch in answers:
        for request, completion in batch:
            assert request.id not in found
            found[request.id] = completion.text or completion.error
    return found


def kills(*words: str, why: str = "no such kernel") -> Deadly:
    """Dies as soon as one of these is decoded."""
    return staticmethod(lambda running, sequences: why if set(words) & set(running) else "")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 40), poison=st.sets(st.integers(0, 39), max_size=IN_A_ROW - 1), sequences=st.integers(1, 9))
def test_a_poison_prompt_fails_alone(engine: type[Dying], count: int, poison: set[int], sequences: int) -> None:
    """Wherever the deadly requests stand, they alone come back with an error, and no answer is decoded twice."""
    words = [f"w{n}" for n in range(count)]
    bad = {f"w{n}" for n in poison if n < count}
    engine.deadly, engine.opened, engine.decoded = kills(*bad), [], []
    got = told(session(sequences).complete(asks(*words)))
    assert got == {w: "crashed the engine: no such kernel" if w in bad else w.upper() for w in words}
    assert sorted(engine.decoded) == sorted(set(words) - bad)


def test_finding_one_among_many_takes_few_reopenings(engine: type[Dying]) -> None:
    """The search is a bisection: 128 requests under way, at most 9 crashes."""
    engine.deadly = kills("w77")
    assert told(session(64).complete(asks(*(f"w{n}" for n in range(200)))))["w77"].startswith("crashed")
    assert len(engine.opened) <= 1 + 9


def test_two_that_are_deadly_only_together_are_both_answered(engine: type[Dying]) -> None:
    """Nobody is convicted who does not kill the engine alone."""
    engine.deadly = staticmethod(lambda running, sequences: "too much" if {"a", "b"} <= set(running) else "")
    assert told(session().complete(asks("a", "b", "c"))) == {"a": "A", "b": "B", "c": "C"}


def test_an_engine_that_always_dies_is_an_error(engine: type[Dying]) -> None:
    """When requests kill it one after the other, it is not the requests."""
    engine.deadly = staticmethod(lambda running, sequences: "broken driver" if running else "")
    with pytest.raises(ModelError, match=r"vLLM died while it decoded 1 requests, after .* broken driver"):
        told(session().complete(asks(*"abcdefgh")))
    assert len(engine.opened) < 12


def test_a_crash_hits_every_caller_and_each_gets_its_own(engine: type[Dying]) -> None:
    """Two judges share an engine; a prompt of one that kills it costs the other nothing."""
    engine.deadly = kills("a2")
    shared = session()
    first, second = shared.complete(asks("a1", "a2", "a3")), shared.complete(asks("b1", "b2", "b3"))
    start = told(iter([next(first)]))
    assert told(second) == {"b1": "B1", "b2": "B2", "b3": "B3"}
    assert start | told(first) == {"a1": "A1", "a2": "crashed the engine: no such kernel", "a3": "A3"}


def test_a_caller_that_stops_takes_its_suspects_along(engine: type[Dying]) -> None:
    """After a crash a caller that has enough leaves nothing to be tried, and the next one is served."""
    engine.deadly = kills("a4")
    shared = session(sequences=2)
    stopped = shared.complete(asks("a1", "a2", "a3", "a4"))
    assert isinstance(stopped, Generator)
    next(stopped)
    stopped.close()
    assert told(shared.complete(asks("b1", "b2"))) == {"b1": "B1", "b2": "B2"}
    assert len(engine.opened) <= 3


def test_memory_that_runs_out_while_decoding_halves_the_batch(
    engine: type[Dying], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Out of memory is nobody's fault: all go back into an engine of half as many sequences, and the user is told."""
    monkeypatch.setattr(console, "_quiet", False)
    engine.deadly = staticmethod(lambda running, sequences: "CUDA out of memory" if len(running) > 2 else "")
    words = [f"w{n}" for n in range(20)]
    assert told(session(8).complete(asks(*words))) == {w: w.upper() for w in words}
    assert engine.opened == [8, 4, 2]
    assert "max_num_seqs 2" in capsys.readouterr().err


def test_memory_that_one_sequence_exhausts_is_an_error(engine: type[Dying]) -> None:
    """Down to one sequence there is no further half."""
    engine.deadly = staticmethod(lambda running, sequences: "CUDA out of memory")
    with pytest.raises(ModelError, match="CUDA out of memory"):
        told(session(4).complete(asks("a")))
    assert engine.opened == [4, 2, 1]


def test_memory_that_runs_out_while_loading_halves_the_batch(engine: type[Dying]) -> None:
    """The largest half that loads is taken; where halving changes nothing, the error comes at once."""
    engine.loads = staticmethod(lambda _, sequences: f"{sequences} out of memory" if sequences > 3 else "")
    assert told(session(12).complete(asks("a"))) == {"a": "A"}
    assert engine.opened == [3]
    tried: list[int] = []

    def never(_: list[str], sequences: int) -> str:
        tried.append(sequences)
        return "No available memory for the cache"

    engine.loads = staticmethod(never)
    with pytest.raises(ModelError, match=r"No available memory[\s\S]*lower max_model_len or max_num_seqs"):
        session(64)
    assert tried == [64, 32]


def test_an_illegal_access_is_no_lack_of_memory() -> None:
    """The word "memory" alone does not halve anything; a cause that says so does."""
    assert not Failure.of(RuntimeError("CUDA error: an illegal memory access was encountered")).memory
    wrapped = RuntimeError("Engine core initialization failed")
    wrapped.__cause__ = MemoryError()
    assert Failure.of(wrapped).memory


def test_onednn_says_it_in_its_own_words() -> None:
    """A primitive that cannot be made lacks memory; one that cannot be described is not implemented."""
    assert Failure.of(RuntimeError("could not create a primitive")).memory
    assert Failure.of(RuntimeError("std::bad_alloc")).memory
    assert not Failure.of(RuntimeError("could not create a primitive descriptor for a matmul primitive")).memory


def test_what_crashed_the_last_process_is_tried_apart(engine: type[Dying], tmp_path: Path) -> None:
    """Suspects of the run before go in by small groups, and the only suspect goes without an answer."""
    log, words = tmp_path / "vllm.log", [f"w{n}" for n in range(40)]
    together: list[set[str]] = []

    def watch(running: list[str], sequences: int) -> str:
        together.append(set(running))
        return ""

    engine.deadly = staticmethod(watch)

    def crash(*inside: str) -> VllmSession:
        opened = session(log=log)
        (path,) = tmp_path.glob("*.inflight")
        opened.close()
        before = InFlight(path)
        for request in asks(*inside):
            before.enter(request)
        before.give_up("test")
        before.close()
        return session(sequences=16, log=log)

    assert told(crash(*words[:32]).complete(asks(*words))) == {w: w.upper() for w in words}
    assert max(len(group) for group in together if group & set(words[:32])) == 2
    got = told(crash("w5").complete(asks(*words[:8])))
    assert got.pop("w5") == "crashed the process of the run before this one"
    assert set(got.values()) == {w.upper() for w in words[:8]} - {"W5"}


def test_an_engine_that_cannot_be_opened_again_names_its_suspects(engine: type[Dying], tmp_path: Path) -> None:
    """As after a fault of the GPU: the run fails, and the next process tries what was under way in groups."""
    engine.deadly = kills("b")
    dying = session(log=tmp_path / "vllm.log")
    engine.loads = staticmethod(lambda _, sequences: "CUDA error: device-side assert triggered")
    with pytest.raises(ModelError, match="device-side assert"):
        told(dying.complete(asks("a", "b")))
    dying.close()
    (left,) = tmp_path.glob("*.inflight")
    before = InFlight(left)
    assert [before.suspected(r) for r in asks("a", "b", "c")] == [True, True, False]
    before.close()
