"""The OpenAI-compatible engine against vLLM's own server on the loopback, and batch files against `vllm run-batch`."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import jsonschema
import pytest

from pipeline.engines import Completion, Request, Sampling
from pipeline.engines.openai import OpenAI
from pipeline.engines.vllm import Vllm
from pipeline.memo import Memo
from pipeline.models import models_home
from pipeline.records import Message

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = models_home().resolve() / "smollm2-135m-instruct"
GREEDY = Sampling(temperature=0.0, max_tokens=12)
SERVING = [
    *("--model", str(MODEL), "--served-model-name", "smol", "--dtype", "float32", "--max-model-len", "1024"),
    *("--gpu-memory-utilization", "0.3", "--enforce-eager"),
    # As the engine in this process does: a small model would fill its tokens with white space.
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
]
# A killed server leaves its workers behind, and a killed test the server: the group ends when either does.
TOGETHER = '("$@"; sleep 3; kill -KILL 0) & cat > /dev/null; kill -KILL 0'  # its trackers tidy up meanwhile
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not (MODEL / "config.json").is_file(), reason="`make models` has not been run"),
]


def environment(**more: str) -> dict[str, str]:
    """What vLLM needs on a small machine without a network."""
    small = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0-1", "VLLM_NO_USAGE_STATS": "1"}
    return os.environ | small | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"} | more


def together(command: list[str], env: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command whose whole process group ends with it, and with this process."""
    return subprocess.Popen(
        ["sh", "-c", TOGETHER, "sh", *command],
        env=env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process group; the shared memory it leaves behind is removed."""
    shared: set[str] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == process.pid:
                shared |= {w for w in (entry / "maps").read_text().split() if w.startswith("/dev/shm/")}
                shared |= set(map(str, Path("/dev/shm").glob(f"sem.loky-{entry.name}-*")))
        except OSError:
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for file in shared:
        Path(file).unlink(missing_ok=True)


class Server:
    """vLLM's server in a process group of its own."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start it and wait until it answers."""
        module = ["-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = together([sys.executable, *module, *SERVING], environment(), log)
        deadline = time.monotonic() + 300
        while not self._healthy():
            assert self._process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.5)

    def kill(self) -> None:
        """SIGKILL, to all of it."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of this file; the one that kills it starts it again."""
    server = Server(tmp_path_factory.mktemp("server") / "log")
    try:
        server.start()
        yield server
    finally:
        server.kill()


def ask(prompt: str, **more: Any) -> Request:
    """A request for a prompt."""
    return Request(id=prompt[:40], messages=(Message(role="user", content=prompt),), **more)


def said(server: Server, *requests: Request) -> list[Completion]:
    """The completions, in the order of the requests."""
    session = OpenAI(model="smol", base_url=server.url, server="vllm", backoff=0.1).open()
    try:
        found = {id(a.request): a.completion for batch in session.complete(requests) for a in batch}
    finally:
        session.close()
    return [found[id(request)] for request in requests]


def test_plain_answers_and_seeds(server: Server) -> None:
    """Answers come with their counts; one seed says one thing, alone or in company, and another says another."""
    drawn = Sampling(max_tokens=12)
    first = said(server, *(ask("Name an animal.", seed=n, sampling=drawn) for n in range(6)))
    assert all(c.text and c.finish_reason in ("stop", "length") and not c.error for c in first)
    assert all(c.prompt_tokens > 5 and 0 < c.completion_tokens <= 12 for c in first)
    assert len({c.text for c in first}) > 1
    (alone,) = said(server, ask("Name an animal.", seed=3, sampling=drawn))
    assert alone == first[3]


def test_stop_strings(server: Server) -> None:
    """An answer ends before the stop string."""
    (whole,) = said(server, ask("Write about a fox.", sampling=Sampling(temperature=0, max_tokens=60)))
    assert "." in whole.text
    (cut,) = said(server, ask("Write about a fox.", sampling=Sampling(temperature=0, max_tokens=60, stop=(".",))))
    assert (cut.text, cut.finish_reason) == (whole.text.partition(".")[0], "stop")


def test_choices_and_schemas_are_enforced(server: Server) -> None:
    """A judge's verdict is one of its numbers, with their log-probabilities; JSON is of its schema."""
    scale = tuple("12345")
    verdict, *people = said(
        server,
        ask("Say something about the sea.", sampling=GREEDY, choices=scale, logprobs=20),
        *(ask("Invent a person.", seed=n, sampling=Sampling(max_tokens=100), json_schema=PERSON) for n in range(3)),
    )
    assert verdict.text in scale
    assert set(scale) <= verdict.logprobs.keys()
    for person in people:
        jsonschema.validate(json.loads(person.text), PERSON)


def test_a_prompt_that_is_too_long_fails_alone(server: Server) -> None:
    """It is an error in the server's words; the next one is answered."""
    too_long, short = said(server, ask("long " * 2000, sampling=GREEDY), ask("Say hi.", sampling=GREEDY))
    assert "HTTP 400: This model's maximum context length is 1024" in too_long.error
    assert short.text


def test_the_trace_is_that_of_the_engine_in_process(server: Server) -> None:
    """Token ids, log-probabilities and alternatives agree with vLLM's in this process, greedy or drawn."""
    requests = [ask("Say hi.", sampling=GREEDY, top_logprobs=4)]
    requests += [
        ask("A word.", seed=n, sampling=Sampling(temperature=1.5, max_tokens=12), top_logprobs=2) for n in (1, 2)
    ]
    there = [c.trace for c in said(server, *requests)]
    session = Vllm(model=str(MODEL), max_model_len=1024).open()
    try:
        found = {id(a.request): a.completion for batch in session.complete(requests) for a in batch}
    finally:
        session.close()
    unlikely = 0
    for request, theirs in zip(requests, there, strict=True):
        ours = found[id(request)].trace
        assert theirs is not None and ours is not None and theirs.k == ours.k == request.top_logprobs
        for a, b in zip(theirs.arrays(), ours.arrays(), strict=True):
            assert a.tolist() == pytest.approx(b.tolist(), abs=2e-2)
        tokens, _, top, _ = ours.arrays()
        unlikely += sum(token not in row for token, row in zip(tokens, top.reshape(-1, ours.k), strict=True))
    assert unlikely, "no drawn token lay outside its alternatives: the test has lost its point"


def pipeline(folder: Path, *words: str) -> list[str]:
    """A pipeline command over the folder's plan."""
    return [sys.executable, "-m", "pipeline", words[0], str(folder / "plan.yaml"), *words[1:]]


def write_plan(folder: Path, teacher: dict[str, Any]) -> None:
    """A plan of 24 short answers."""
    prompts = [f"Tell me one thing about the number {n}." for n in range(24)]
    plan = {
        "name": "served",
        "teacher": teacher,
        "generate": {
            "source": {"kind": "grid", "axes": {"prompt": prompts}},
            "task": {"kind": "respond"},
            "sampling": {"max_tokens": 48},
            "truncated": "keep",
            "heldout": 0,
        },
    }
    (folder / "plan.yaml").write_text(json.dumps(plan))


def remembered(memo: Path) -> int:
    """Answers in a memo."""
    if not memo.is_file():
        return 0
    with Memo(memo) as open_:
        return len(open_)


def test_a_server_that_dies_stops_the_run_and_nothing_is_lost(server: Server, tmp_path: Path) -> None:
    """SIGKILL to the server: exit code 1 and a way to go on; with a new server the same command asks only the rest."""
    write_plan(tmp_path, {"kind": "openai", "model": "smol", "base_url": server.url, "server": "vllm",
                          "concurrency": 3, "retries": 2, "backoff": 0.2})  # fmt: skip
    env, memo = environment(PIPELINE_RUNS=str(tmp_path / "runs")), tmp_path / "runs/served/memo.sqlite"
    running = subprocess.Popen(pipeline(tmp_path, "generate"), cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    while remembered(memo) < 4 and running.poll() is None:
        time.sleep(0.1)
    server.kill()
    _, talk = running.communicate(timeout=120)
    before = remembered(memo)
    assert running.returncode == 1 and 4 <= before < 24, talk
    assert f"no connection to {server.url}" in talk and "the same command goes on" in talk and "Traceback" not in talk
    assert not list((tmp_path / "runs/served/generate").glob("*"))
    server.start()
    done = subprocess.run(
        pipeline(tmp_path, "generate", "--json"), cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (manifest,) = json.loads(done.stdout)
    assert manifest["counts"]["kept"] == 24
    assert (manifest["usage"]["remembered"], manifest["usage"]["asked"]) == (before, 24 - before)


def test_a_batch_file_goes_through_vllms_own_runner(tmp_path: Path) -> None:
    """Written for a vllm teacher, answered by `run_batch`, read: generate asks nobody, and the rows are whole."""
    teacher = {"kind": "vllm", "model": str(MODEL), "max_model_len": 1024}
    write_plan(tmp_path, teacher)
    env = environment(PIPELINE_RUNS=str(tmp_path / "runs"))

    def run(*words: str) -> Any:
        done = subprocess.run(
            pipeline(tmp_path, *words, "--json"), cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    asked, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    assert run("batch", "generate", "--write", str(asked), "--set=generate.sampling.top_logprobs=3")["requests"] == 24
    runner = [sys.executable, "-m", "vllm.entrypoints.openai.run_batch", "-i", str(asked), "-o", str(answers)]
    serving = [str(MODEL) if word == "smol" else word for word in SERVING]
    log = tmp_path / "log"
    with log.open("wb") as talk:
        process = together([*runner, *serving], env, talk)
        try:
            process.wait(timeout=500)
        finally:
            end(process)
    assert answers.is_file(), log.read_text()[-3000:]
    traced = "--set=generate.sampling.top_logprobs=3"
    read = run("batch", "generate", "--read", str(answers), traced)
    assert (read["read"], read["failed"], read["left"]) == (24, 0, 0)
    (manifest,) = run("generate", traced)
    assert manifest["usage"]["remembered"] == 24 and "asked" not in manifest["usage"]
    assert manifest["counts"]["kept"] == 24
