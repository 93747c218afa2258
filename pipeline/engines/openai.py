"""Any OpenAI-compatible server: hosted APIs, `vllm serve`, llama.cpp, Ollama...

Requests run side by side up to `concurrency`. 429, 5xx, timeouts and broken connections are tried again with
exponential backoff and full jitter, no sooner than `Retry-After` says; while a server complains, fewer run at once
(additive increase, multiplicative decrease, as TCP does). The key comes from the environment and goes nowhere else.
"""

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field

from pipeline.component import Knob
from pipeline.engines.base import Answered, Completion, Engine, Request, Source
from pipeline.errors import ModelError

FATAL = {401: "the key is refused", 404: "no such model or path"}
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class OpenAI(Engine):
    """An OpenAI-compatible server; the base URL and the key come from the environment."""

    remote: ClassVar[bool] = True

    kind: Literal["openai"] = "openai"
    base_url: Annotated[
        str, Knob(), Field(description="for example http://localhost:8000/v1; $OPENAI_BASE_URL when left out")
    ] = ""
    api_key_env: Annotated[str, Knob(), Field(description="the environment variable that holds the key")] = (
        "OPENAI_API_KEY"
    )
    concurrency: Annotated[int, Knob(), Field(ge=1, description="requests under way at once, at most")] = 64
    requests_per_minute: Annotated[float | None, Knob(), Field(gt=0, description="no limit when left out")] = None
    timeout: Annotated[float, Knob(), Field(gt=0, description="seconds for one answer")] = 600.0
    retries: Annotated[int, Knob(), Field(ge=0, description="tries after the first")] = 6
    backoff: Annotated[float, Knob(), Field(gt=0, description="seconds; the first wait is at most this long")] = 1.0
    server: Annotated[
        Literal["openai", "vllm"], Field(description="vllm: choices are enforced, not only asked for")
    ] = "openai"
    extra_body: Annotated[dict[str, Any], Field(description="further fields of the request, as they are")] = {}

    def weights(self) -> list[tuple[str, str]]:
        """None: they are on the server."""
        return []

    def words(self) -> dict[str, str]:
        """The model by name; who serves it does not count, what the requests carry besides does."""
        words = {"engine": "openai", "model": self.model, "revision": self.revision}
        if self.server != "openai":
            words["server"] = self.server
        if self.extra_body:
            words["extra_body"] = orjson.dumps(self.extra_body, option=orjson.OPT_SORT_KEYS).decode()
        return words

    def open(self, log: Path | None = None) -> "OpenAISession":
        """Nothing is sent yet."""
        url = (self.base_url or os.environ.get("OPENAI_BASE_URL", "")).rstrip("/")
        if not url:
            raise ModelError("no server is named", hint="set teacher.base_url or OPENAI_BASE_URL")
        return OpenAISession(self, url, os.environ.get(self.api_key_env, ""))


class _Work:
    """The tasks of one `complete`, and what they have brought."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.running: set[asyncio.Task[None]] = set()
        self.ready: deque[Answered] = deque()
        self.failed: list[BaseException] = []

    def start(self, answering: Coroutine[Any, Any, None]) -> None:
        """Begin one request."""
        task = self._loop.create_task(answering)
        self.running.add(task)
        task.add_done_callback(self._ended)

    def take(self) -> list[Answered]:
        """What has come back since the last time."""
        finished = list(self.ready)
        self.ready.clear()
        return finished

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed.append(error)


class OpenAISession:
    """An event loop of its own, run whenever the caller wants more answers."""

    def __init__(self, engine: OpenAI, url: str, key: str) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise ModelError(f"aiohttp is not installed ({error})", hint="pip install 'pipeline[openai]'") from error
        self.engine, self._url = engine, url
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._runner = asyncio.Runner()
        self._limit = float(engine.concurrency)
        self._eased = self._next_start = 0.0

        async def connect() -> Any:
            connector = aiohttp.TCPConnector(limit=0)
            return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=engine.timeout))

        self._http: Any = self._runner.run(connect())

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """Keep as many under way as the server takes; yield what has come back."""
        source = Source(requests)
        work = _Work(self._runner.get_loop())
        try:
            while True:
                while len(work.running) < max(1, int(self._limit)) and (request := source.next()) is not None:
                    work.start(self._answer(request, work.ready))
                if not work.running and not work.ready:
                    if source.exhausted:
                        return
                    yield []
                    continue
                if not work.ready:
                    self._runner.run(_first(work.running))
                if work.failed:
                    raise work.failed[0]
                if finished := work.take():
                    yield finished
        finally:
            if work.running:
                self._runner.run(_cancel(work.running))

    def close(self) -> None:
        """Close connections and loop."""
        if self._http is not None:
            self._runner.run(self._http.close())
            self._runner.close()
            self._http = None

    async def _answer(self, request: Request, ready: deque[Answered]) -> None:
        ready.append(Answered(request, await self._tried(request)))

    async def _tried(self, request: Request) -> Completion:
        """One request with its retries; the last problem where none went through."""
        body = orjson.dumps(self._body(request))
        problem = ""
        for attempt in range(self.engine.retries + 1):
            await self._turn()
            completion, problem, wait = await self._post(body)
            if completion is not None:
                self._limit = min(float(self.engine.concurrency), self._limit + 1 / self._limit)
                return completion
            if wait is None:
                break
            self._ease()
            if attempt < self.engine.retries:
                await asyncio.sleep(max(wait, random.uniform(0, self.engine.backoff * 2**attempt)))
        return Completion(error=problem)

    async def _post(self, body: bytes) -> tuple[Completion | None, str, float | None]:
        """The answer; or what went wrong and how long to wait, None where asking again would not help."""
        import aiohttp

        try:
            async with self._http.post(f"{self._url}/chat/completions", data=body, headers=self._headers) as response:
                content = await response.read()
                status, after = response.status, response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return None, f"{type(error).__name__}: {error}".rstrip(": "), 0.0
        if status in FATAL:
            raise ModelError(f"{self._url} says {status}: {FATAL[status]}: {_said(content)}")
        if status != 200:
            wait = _seconds(after) if status in AGAIN else None
            return None, f"HTTP {status}: {_said(content)}", wait
        try:
            return _completion(orjson.loads(content)), "", None
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError) as error:
            return None, f"unreadable response ({type(error).__name__}): {_said(content)}", 0.0

    async def _turn(self) -> None:
        """Wait for this request's place under `requests_per_minute`."""
        if self.engine.requests_per_minute is None:
            return
        now = time.monotonic()
        start = max(now, self._next_start)
        self._next_start = start + 60 / self.engine.requests_per_minute
        await asyncio.sleep(start - now)

    def _ease(self) -> None:
        """Fewer at once, at most one step a second: what is under way complains together."""
        now = time.monotonic()
        if now - self._eased >= 1.0:
            self._eased, self._limit = now, max(1.0, self._limit * 0.7)

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.engine.model,
            "messages": [m.model_dump() for m in request.messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed,
        }
        if self.engine.server == "vllm" and request.choices:
            body["structured_outputs"] = {"choice": list(request.choices)}
        elif request.json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": request.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        plain = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        body |= {name: getattr(sampling, name) for name, off in plain.items() if getattr(sampling, name) != off}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.logprobs}
        if request.chat_template_kwargs:
            body["chat_template_kwargs"] = request.chat_template_kwargs
        return body | self.engine.extra_body


def _completion(response: dict[str, Any]) -> Completion:
    choices = response["choices"]
    if len(choices) != 1:
        raise ValueError(f"{len(choices)} choices")
    choice, usage = choices[0], response.get("usage") or {}
    tokens = (choice.get("logprobs") or {}).get("content") or [{}]
    return Completion(
        text=choice["message"]["content"] or "",
        finish_reason=choice.get("finish_reason") or "",
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        logprobs={t["token"]: t["logprob"] for t in tokens[0].get("top_logprobs", [])},
    )


def _seconds(after: str) -> float:
    try:
        return max(0.0, float(after))
    except ValueError:
        return 0.0  # a date, or nothing: the backoff decides


def _said(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "replace").split())[:200]


async def _first(tasks: set[asyncio.Task[None]]) -> None:
    """Until one is done; at once where one was done already and the loop had yet to say so."""
    if pending := {task for task in tasks if not task.done()}:
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
