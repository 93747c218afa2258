"""An open connection to an OpenAI-compatible server.

Requests run side by side up to `concurrency`. 429, 5xx, timeouts and broken connections are tried again with
exponential backoff and full jitter, no sooner than the server says; while it complains, fewer run at once
(additive increase, multiplicative decrease, as TCP does). The key comes from the environment and goes nowhere else.
"""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pipeline import console
from pipeline.engines.base import Answered, Completion, Request, Source
from pipeline.engines.openai_api import UNSUPPORTED, completion_of, error_code, error_text, wait_of
from pipeline.engines.pace import Pace, Width
from pipeline.errors import ModelError

if TYPE_CHECKING:
    from pipeline.engines.openai import OpenAI

FATAL = {401: "the key is refused", 402: "the account has no credit left", 404: "no such model or path"}
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
LONG_WAIT = 60.0  # seconds; a longer one is told


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

    def __init__(self, engine: "OpenAI", url: str, key: str) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise ModelError(f"aiohttp is not installed ({error})", hint="pip install 'pipeline[openai]'") from error
        self.engine, self._url, self._key = engine, url, key
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._runner = asyncio.Runner()
        self._width = Width(engine.concurrency)
        self._pace = Pace(engine.requests_per_minute, engine.tokens_per_minute)
        self._told: set[str] = set()

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
                while len(work.running) < int(self._width) and (request := source.next()) is not None:
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
        problem = self.engine.refusal(request)
        ready.append(Answered(request, Completion(error=problem) if problem else await self._tried(request)))

    async def _tried(self, request: Request) -> Completion:
        """One request with its retries; the last problem where none went through."""
        body = orjson.dumps(self.engine.body(request))
        size = sum(len(m.content.encode()) for m in request.messages)
        tried = _Try()
        for attempt in range(self.engine.retries + 1):
            share = await self._pace.turn(size, request.sampling.max_tokens)
            tried = await self._post(body, request.top_logprobs)
            if tried.taken is not None:
                self._pace.settle(share, *tried.taken)
            if tried.completion is not None:
                self._width.grow()
                return tried.completion
            if tried.wait is None:
                break
            self._width.ease()
            if tried.wait > LONG_WAIT:
                self._tell("wait", f"the server asks to wait {console.clock(tried.wait)}: {tried.problem}")
            if attempt < self.engine.retries:
                await asyncio.sleep(max(tried.wait, random.uniform(0, self.engine.backoff * 2**attempt)))
        if tried.unreached:
            raise ModelError(
                f"no connection to {self._url}: {tried.problem}",
                hint="start the server; the same command goes on from what was answered",
            )
        return Completion(error=tried.problem)

    async def _post(self, body: bytes, top_logprobs: int) -> "_Try":
        import aiohttp

        try:
            async with self._http.post(f"{self._url}/chat/completions", data=body, headers=self._headers) as response:
                content = await response.read()
                status, headers = response.status, response.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = f"{type(error).__name__}: {error}".rstrip(": ")
            return _Try(problem=problem, unreached=isinstance(error, aiohttp.ClientConnectorError))
        if status != 200:
            return self._refused(status, headers, content)
        try:
            completion = completion_of(orjson.loads(content), top_logprobs)
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            return _Try(problem=f"unreadable response ({type(error).__name__}): {self._said(content)}")
        if completion.prompt_tokens or completion.completion_tokens:
            return _Try(completion, taken=(completion.prompt_tokens, completion.completion_tokens))
        self._tell("usage", f"{self._url} sends no token counts: tokens and cost count as 0")
        return _Try(completion)

    def _refused(self, status: int, headers: Mapping[str, str], content: bytes) -> "_Try":
        """What an error response means. Raises ModelError where every other request would fail too."""
        code = error_code(content)
        fatal = FATAL[402] if code == "insufficient_quota" else FATAL.get(status)
        if fatal:
            raise ModelError(f"{self._url} says {status}: {fatal}: {self._said(content)}")
        problem = f"HTTP {status}: {self._said(content)}"
        if code in UNSUPPORTED:
            problem += " (see teacher.omit and teacher.max_tokens_field)"
        return _Try(problem=problem, wait=wait_of(headers) if status in AGAIN else None, taken=(0, 0))

    def _said(self, content: bytes) -> str:
        """The start of an error; a server may quote the key it was sent."""
        text = error_text(content)
        return (text.replace(self._key, "***") if self._key else text)[:200]

    def _tell(self, what: str, text: str) -> None:
        """Say something once."""
        if what not in self._told:
            self._told.add(what)
            console.warn(text)


class _Try(NamedTuple):
    """What came of one try: an answer; or the problem and how long to wait (None: asking again would not help)."""

    completion: Completion | None = None
    problem: str = ""
    wait: float | None = 0.0
    unreached: bool = False
    taken: tuple[int, int] | None = None  # prompt and answer tokens, where the server has counted them


async def _first(tasks: set[asyncio.Task[None]]) -> None:
    """Until one is done; at once where one was done already and the loop had yet to say so."""
    if pending := {task for task in tasks if not task.done()}:
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
