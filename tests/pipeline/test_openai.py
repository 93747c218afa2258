"""The OpenAI-compatible engine against a scripted server: failures are tried again, nothing is lost or doubled."""

import itertools
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import console
from pipeline.engines import Completion, Request, Sampling, openai_session, pace
from pipeline.engines.openai import OpenAI
from pipeline.engines.openai_api import completion_of, wait_of
from pipeline.engines.openai_session import OpenAISession
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

    def taken(self) -> list[tuple[float, int]]:
        """When each answered request came, and its tokens."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/asked") as response:
            return [(at, tokens) for at, tokens in orjson.loads(response.read())]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    log = tmp_path / "asked.jsonl"
    command = [sys.executable, "-m", "tests.scripted_server", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", log)
        process.kill()


def session(server: Server, /, **settings: object) -> OpenAISession:
    """An open engine that is quick to try again."""
    fields = {"model": "scripted", "base_url": server.url, "backoff": 0.05, **settings}
    return OpenAI.model_validate(fields).open()


def ask(prompt: str, **more: Any) -> Request:
    """A request for a prompt."""
    return Request(id=prompt, messages=(Message(role="user", content=prompt),), **more)


def said(session: OpenAISession, prompts: list[str], max_tokens: int = 512) -> dict[str, Completion]:
    """The completion of every prompt, each exactly once."""
    requests = [ask(p, sampling=Sampling(max_tokens=max_tokens)) for p in prompts]
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


@pytest.mark.parametrize("factor", [1, 3], ids=["english", "korean"])
def test_tokens_per_minute_is_kept(server: Server, monkeypatch: pytest.MonkeyPatch, factor: int) -> None:
    """No window holds more tokens than the limit, by the server's own count; and the limit is used.

    The server sees requests a little after they were counted here, so its windows are taken a quarter shorter.
    """
    monkeypatch.setattr(pace, "MINUTE", 2.0)
    prompts = [f"{'친구' * 15 if factor == 3 else 'friend ' * 5}{n}" for n in range(40)]
    said(session(server, tokens_per_minute=3000), prompts, max_tokens=400)
    taken = server.taken()
    assert len(taken) == 40
    for at, _ in taken:
        assert sum(tokens for other, tokens in taken if at <= other < at + 1.5) <= 3000
    seconds = max(at for at, _ in taken) - min(at for at, _ in taken)
    assert seconds < 2 * (1 + 2 * sum(tokens for _, tokens in taken) / 3000)


def test_a_request_above_the_limit_goes_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one request sets more aside than a minute allows, it is asked once nothing else counts."""
    monkeypatch.setattr(pace, "MINUTE", 0.3)
    answers = said(session(server, tokens_per_minute=50), ["a", "b", "c"])
    assert all(a.text for a in answers.values())
    times = sorted(at for at, _ in server.taken())
    assert all(later - earlier > 0.28 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("word", ["DATE", "MILLISECONDS", "RESET"])
def test_a_server_says_how_long_to_wait(server: Server, word: str) -> None:
    """An HTTP date, milliseconds, and the reset of a limit that is used up are all waited for."""
    started = time.monotonic()
    assert said(session(server), [f"{word} a"])[f"{word} a"].text
    assert 0.95 <= time.monotonic() - started < 4  # a date has whole seconds: two may be little more than one


def test_a_long_wait_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a server wants to be left alone for long, the user hears of it once, and why."""
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.setattr(openai_session, "LONG_WAIT", 0.1)
    said(session(server), ["LIMIT a", "LIMIT b"])
    talk = capsys.readouterr().err
    assert talk.count("the server asks to wait 0.2 s: HTTP 429: slow down") == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"Retry-After": "7.5"}, 7.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "nan"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, 0.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "250ms"}, 0.25),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12"}, 12.0),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "12s"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "later"}, 0.0),
    ],
)
def test_waits_as_headers_say_them(headers: dict[str, str], seconds: float) -> None:
    """Whatever stands there, the wait is a number of seconds, and no less than 0."""
    assert wait_of(headers) == pytest.approx(seconds)


def test_spent_credit_ends_the_run(server: Server) -> None:
    """A 429 that means "no credit left" is not tried again: every other request would fail too."""
    with pytest.raises(ModelError, match="the account has no credit left"):
        said(session(server), ["QUOTA a"])
    assert server.asked()["QUOTA a"] == 1


def test_an_unsupported_parameter_names_the_settings(server: Server) -> None:
    """The error of such a 400 says which settings help."""
    error = said(session(server), ["PARAMETER a"])["PARAMETER a"].error
    assert "Unsupported parameter" in error and "teacher.omit" in error and "teacher.max_tokens_field" in error


def test_the_settings_for_other_servers() -> None:
    """`omit` leaves fields out and makes other words; `max_tokens_field` renames one and does not."""
    plain = OpenAI(model="m")
    assert {"max_tokens", "temperature", "top_p", "seed"} <= plain.body(ask("a")).keys()
    other = OpenAI(model="m", omit=("seed", "temperature"), max_tokens_field="max_completion_tokens")
    body = other.body(ask("a", sampling=Sampling(max_tokens=7)))
    assert body["max_completion_tokens"] == 7
    assert not {"max_tokens", "temperature", "seed"} & body.keys()
    assert other.words() != plain.words()
    assert OpenAI(model="m", max_tokens_field="max_completion_tokens").words() == plain.words()


def test_a_vllm_server_is_told_all_sampling() -> None:
    """What is left out vLLM takes from the model's own files, so off is said aloud there; elsewhere it is not sent."""
    assert not {"top_k", "min_p", "repetition_penalty"} & OpenAI(model="m").body(ask("a")).keys()
    body = OpenAI(model="m", server="vllm").body(ask("a"))
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)


def test_thinking_comes_apart(server: Server) -> None:
    """`reasoning_content` and `reasoning` are the completion's reasoning; an answer may be nothing else."""
    answers = said(session(server), ["THINKS a", "REASONS b", "c"])
    assert answers["THINKS a"].reasoning == answers["REASONS b"].reasoning == "Let me see."
    assert answers["THINKS a"].text.startswith("An answer") and answers["REASONS b"].text == ""
    assert answers["c"].reasoning == ""


def test_missing_token_counts_are_told_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that sends no usage: tokens count as 0, and one warning says so."""
    monkeypatch.setattr(console, "_quiet", False)
    answers = said(session(server), ["UNCOUNTED a", "UNCOUNTED b"])
    assert answers["UNCOUNTED a"].completion_tokens == 0 and answers["UNCOUNTED a"].text
    assert capsys.readouterr().err.count("sends no token counts") == 1


@pytest.mark.parametrize(
    ("server_kind", "more", "says"),
    [
        ("openai", {"top_logprobs": 5}, "gives no token ids"),
        ("vllm", {"top_logprobs": 5, "logprobs": 5}, "not top_logprobs together with logprobs"),
        ("vllm", {"open_user": True}, "needs an engine of kind vllm or transformers"),
    ],
)
def test_what_a_server_cannot_do_is_not_asked(
    server: Server, server_kind: str, more: dict[str, Any], says: str
) -> None:
    """Such a request comes back with its reason, and the server never sees it."""
    opened = session(server, server=server_kind)
    ((answered,),) = opened.complete([ask("a", **more)])
    opened.close()
    assert says in answered.completion.error
    assert not server.asked()


def test_a_trace_is_read_from_token_ids() -> None:
    """Token ids, chosen log-probabilities and the k likeliest, also where the chosen one is none of them."""

    def token(id: int, logprob: float, *top: tuple[int, float]) -> dict[str, Any]:
        return {
            "token": f"token_id:{id}",
            "logprob": logprob,
            "top_logprobs": [{"token": f"token_id:{i}", "logprob": p} for i, p in top],
        }

    choice = {
        "message": {"content": "hi"},
        "finish_reason": "stop",
        "logprobs": {
            "content": [token(7, -3.0, (7, -3.0), (1, -0.5), (2, -1.0)), token(5, -0.25, (5, -0.25), (6, -2.0))]
        },
    }
    response: dict[str, Any] = {"choices": [choice]}
    trace = completion_of(response, 2).trace
    assert trace is not None and trace.k == 2
    assert [list(a) for a in trace.arrays()] == [[7, 5], [-3.0, -0.25], [1, 2, 5, 6], [-0.5, -1.0, -0.25, -2.0]]
    response["choices"][0]["logprobs"]["content"][0]["token"] = " hi"
    with pytest.raises(ValueError, match="without its id"):
        completion_of(response, 2)


def test_the_key_is_in_no_message(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that quotes the key it was sent: the errors that reach records and the user have stars instead."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")  # a key file ends with a newline
    error = said(session(server), ["ECHO a"])["ECHO a"].error
    assert "you sent Bearer ***" in error and "sk-secret" not in error
    with pytest.raises(ModelError, match=r"the key is refused: .*you sent Bearer \*\*\*") as refused:
        said(session(server), ["KEY a"])
    assert "sk-secret" not in str(refused.value)
    with pytest.raises(ModelError, match="the base URL holds a password") as refused:
        OpenAI(model="m", base_url="http://me:sk-secret@host/v1").open()
    assert "sk-secret" not in str(refused.value)


def test_the_key_is_in_no_file(server: Server, tmp_path: Path) -> None:
    """After a run with answers and an echoed key, no file of the run holds the key, nor does what was said."""
    rows = [{"prompt": prompt} for prompt in ("ECHO a", "b", "c")]
    (tmp_path / "seeds.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    (tmp_path / "plan.yaml").write_text(
        f"name: keyed\nteacher: {{kind: openai, model: m, base_url: '{server.url}'}}\n"
        "generate: {source: {kind: jsonl, path: seeds.jsonl}, task: {kind: respond}, heldout: 0}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(tmp_path / "plan.yaml"), "--json"],
        cwd=ROOT,
        env=os.environ | {"PIPELINE_RUNS": str(tmp_path / "runs"), "OPENAI_API_KEY": "sk-secret"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = [p for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert {"memo.sqlite", "manifest.json", "dropped-00000.jsonl"} <= {p.name for p in files}
    assert not [p for p in files if b"sk-secret" in p.read_bytes()]
    assert b"sk-secret" not in done.stdout + done.stderr


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
    """When nobody listens the run fails with the reason, and nothing looks done."""
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
    assert "no connection to http://127.0.0.1:9/v1" in done.stderr and "hint: start the server" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs/down").glob("generate/*"))


def test_words_count_what_requests_carry(server: Server) -> None:
    """Another server of the same model has the same answers; enforced choices and further fields make others."""
    base = OpenAI(model="m", base_url=server.url).words()
    assert OpenAI(model="m", base_url="http://elsewhere/v1", concurrency=1).words() == base
    assert OpenAI(model="m", server="vllm").words() != base
    assert OpenAI(model="m", extra_body={"top_k": 5}).words() != base
