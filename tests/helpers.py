"""What several tests share: short ways to a record, a plan folder, and a teacher whose words the test wrote."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import yaml

from pipeline.engines import Answered, Completion, Engine, Request
from pipeline.engines.replay import Replay
from pipeline.records import Check, Message, Record

WORDS = {"engine": "scripted", "model": "scripted/teacher", "revision": "1", "dtype": "none"}
Script = Callable[[Request], Completion]


def record(
    answer: str = "Once a fox found a boat.", *, id: str = "r1", prompt: str = "A story.", **more: Any
) -> Record:
    """A record of one question and one answer."""
    messages = [Message(role="user", content=prompt), Message(role="assistant", content=answer)]
    fields: dict[str, Any] = {"task": "given", "messages": messages, "seeds": [id], "checks": [Check(name="given")]}
    return Record(id=id, **(fields | more))


def records(*answers: str) -> list[Record]:
    """Records with these answers, called r0, r1 ..."""
    return [record(answer, id=f"r{n}") for n, answer in enumerate(answers)]


class Nobody:
    """A filter's context in which no model can be asked."""

    seed = 0

    def ask(self, engine: Engine | None, requests: Iterable[Request]) -> Iterator[Answered]:
        """Fails: the filter under test asks nobody."""
        raise AssertionError("this filter asks no model")


class Oracle:
    """A filter's context whose model answers by a function, in order, one by one."""

    seed = 0

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Request] = []

    def ask(self, engine: Engine | None, requests: Iterable[Request]) -> Iterator[Answered]:
        """What the function says."""
        for request in requests:
            self.asked.append(request)
            yield Answered(request, self.script(request))


class ScriptedSession:
    """An open engine that answers by a function and writes down what it said, as a recording."""

    def __init__(self, recording: Path, script: Script) -> None:
        self.recording, self.script = recording, script

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """Every request once, in order."""
        for request in requests:
            if request is None:
                yield []
                continue
            completion = self.script(request)
            under = request.sampling.max_tokens
            row = {"key": request.key(WORDS), "max_tokens": under, "completion": completion.model_dump()}
            with self.recording.open("ab") as file:
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            yield [Answered(request, completion)]

    def close(self) -> None:
        """Nothing to free."""


def stub_model(folder: Path) -> Path:
    """A folder that passes for a local model until somebody loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "none"}')
    return folder


def empty_recording(path: Path) -> Path:
    """A recording that knows its engine's words and no answer yet."""
    path.write_bytes(orjson.dumps({"words": WORDS}, option=orjson.OPT_APPEND_NEWLINE))
    return path


def write_plan(folder: Path, **sections: Any) -> Path:
    """A plan whose teacher replays `recording.jsonl` beside it; `sections` replace or add to the plan's own."""
    stub_model(folder / "model")
    if not (folder / "recording.jsonl").exists():
        empty_recording(folder / "recording.jsonl")
    plan: dict[str, Any] = {
        "name": "tiny",
        "seed": 3,
        "teacher": {"kind": "replay", "model": str(folder / "model"), "recording": "recording.jsonl"},
        "generate": {
            "source": {"kind": "grid", "axes": {"prompt": [f"Tell me about number {n}." for n in range(8)]}},
            "task": {"kind": "respond"},
            "heldout": 0.3,
        },
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan | sections, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def opens_scripted(script: Script) -> Callable[..., Any]:
    """A stand-in for `Replay.open` under which answers come from `script` and are added to the recording."""

    def open_(self: Replay, log: Path | None = None) -> ScriptedSession:
        return ScriptedSession(self.recording, script)

    return open_
