"""The OpenAI-compatible engine against a scripted server: failures are tried again, nothing is lost or doubled."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pipeline.engines import Completion, Request
from pipeline.engines.openai import OpenAI, OpenAISession
from pipeline.errors import ModelError
from pipeline.records import Message
from tests.scripted_server import answer

ROOT = Path(__file__).resolve().parent.parent.parent


class Server:
    """A running scripted server."""

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log

    def asked(self) -> Counter[str]:
        """How often each prompt has come."""
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        return Counter(orjson.loads(line) for line in lines)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    log = tmp_path / "asked.jsonl"
    command = [sys.executable, "-m", "tests.scripted_server", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", log)
        process.kill()


def session(server: Server, **settings: object) -> OpenAISession:
    """An open engine that is quick to try again."""
    fields = {"model": "scripted", "base_url": server.url, "backoff": 0.05, **settings}
    return OpenAI.model_validate(fields).open()


def said(session: OpenAISession, prompts: list[str]) -> dict[str, Completion]:
    """The completion of every prompt, each exactly once."""
    requests = [Request(id=p, messages=(Message(role="user", content=p),)) for p in prompts]
    try:
        answers = [a for batch in session.complete(requests) for a in batch]
    finally:
        session.close()
    assert Counter(a.request.id for a in answers) == Counter(prompts)
    return {a.request.id: a.completion for a in answers}


def test_every_failure_that_may_pass_is_tried_again(server: Server) -> None:
    """429, 500, a closed connection, broken JSON, a wrong number of choices and a hang end in an answer."""
    prompts = [f"{word} {n}" for word in ("LIMIT", "ERROR", "CLOSE", "BROKEN", "TWO", "HANG", "fine") for n in range(3)]
    answers = said(session(server, timeout=1.0), prompts)
    for prompt in prompts:
        assert answers[prompt].text == answer(prompt)["choices"][0]["message"]["content"], answers[prompt]
        assert server.asked()[prompt] == (1 if prompt.startswith("fine") else 2)


def test_a_refused_prompt_fails_alone(server: Server) -> None:
    """A 400 is not tried again and does not stop the others."""
    answers = said(session(server), ["REFUSED a", "b", "c"])
    assert "not allowed" in answers["REFUSED a"].error
    assert not answers["b"].error and not answers["c"].error
    assert server.asked()["REFUSED a"] == 1


def test_retries_are_bounded(server: Server) -> None:
    """With no tries left the request comes back with what went wrong."""
    answers = said(session(server, retries=0), ["ERROR a"])
    assert answers["ERROR a"].error == "HTTP 500: out of order"


def test_a_wrong_path_ends_the_run_with_one_message(server: Server) -> None:
    """404 means every other request would fail too."""
    wrong = Server(server.url + "/nowhere", server.log)
    with pytest.raises(ModelError, match="404: no such model or path"):
        said(session(wrong), ["a", "b"])


def test_requests_per_minute_is_kept(server: Server) -> None:
    """At 600 a minute, eleven requests take a second."""
    started = time.monotonic()
    said(session(server, requests_per_minute=600), [str(n) for n in range(11)])
    assert time.monotonic() - started >= 0.99


def test_the_url_and_the_key_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_BASE_URL names the server; without one there is a clear message; a key is in no setting."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    engine = OpenAI(model="scripted")
    assert "sk-secret" not in engine.model_dump_json() + str(engine.words())
    assert said(engine.open(), ["a"])["a"].finish_reason == "stop"
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(ModelError, match="no server is named"):
        engine.open()


def test_a_server_that_is_down_makes_no_version(tmp_path: Path) -> None:
    """When nothing was answered the run fails with the reason, and nothing looks done."""
    (tmp_path / "seeds.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    (tmp_path / "plan.yaml").write_text(
        "name: down\nteacher: {kind: openai, model: m, base_url: http://127.0.0.1:9/v1, retries: 1, backoff: 0.01}\n"
        "generate: {source: {kind: jsonl, path: seeds.jsonl}, task: {kind: respond}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(tmp_path / "plan.yaml")],
        cwd=ROOT,
        env=os.environ | {"PIPELINE_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "answered none of 2 requests" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs/down").glob("generate/*"))


def test_words_count_what_requests_carry(server: Server) -> None:
    """Another server of the same model has the same answers; enforced choices and further fields make others."""
    base = OpenAI(model="m", base_url=server.url).words()
    assert OpenAI(model="m", base_url="http://elsewhere/v1", concurrency=1).words() == base
    assert OpenAI(model="m", server="vllm").words() != base
    assert OpenAI(model="m", extra_body={"top_k": 5}).words() != base
