"""What a stage gets to do its work: the run, the seed, models to ask, and where to write.

`ask` is the one way to a model: the memo first, the engine for the rest, each completion durable before
it is seen, answers in the order of the requests. Engines open on the first miss and stay open until
`close_engines`, so that a run loads the teacher once.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice

from pipeline import console
from pipeline.engines import Answered, Completion, Engine, Request, Session
from pipeline.errors import UsageError
from pipeline.memo import Memo
from pipeline.run import Run

LOOKUP = 256  # requests looked up in the memo at once


class Job:
    """One invocation over one run."""

    def __init__(self, run: Run, seed: int, teacher: Engine | None, limit: int | None = None) -> None:
        self.run, self.seed, self.teacher, self.limit = run, seed, teacher, limit
        self.usage: Counter[str] = Counter()
        self._sessions: dict[str, Session] = {}
        self._memo: Memo | None = None

    @property
    def memo(self) -> Memo:
        """The run's memo, opened on first use."""
        if self._memo is None:
            self._memo = Memo(self.run.memo)
        return self._memo

    def close(self) -> None:
        """Close engines and memo."""
        self.close_engines()
        if self._memo is not None:
            self._memo.__exit__(None, None, None)
            self._memo = None

    def close_engines(self) -> None:
        """Free the models' memory."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def ask(self, engine: Engine | None, requests: Iterable[Request]) -> Iterator[Answered]:
        """Answers in the order of `requests`; None asks the teacher. Reads ahead as the engine can take."""
        engine = engine or self.teacher
        if engine is None:
            raise UsageError("the plan has no teacher", hint="give it one: teacher: {kind: vllm, model: ...}")
        order: deque[Request] = deque()
        done: dict[int, Completion] = {}

        def noted() -> Iterator[Request]:
            for request in requests:
                order.append(request)
                yield request

        answers = self._complete(engine, noted())
        for answered in answers:
            done[id(answered.request)] = answered.completion
            while order and id(order[0]) in done:
                request = order.popleft()
                yield Answered(request, done.pop(id(request)))

    def _complete(self, engine: Engine, requests: Iterator[Request]) -> Iterator[Answered]:
        """Remembered answers as they are found, fresh ones as they arrive; any order."""
        words = engine.words()
        found: deque[Answered] = deque()
        waiting: dict[str, list[Request]] = {}
        asked: list[Request] = []
        while not asked:  # what is remembered streams through before an engine is opened
            batch = list(islice(requests, LOOKUP))
            if not batch:
                return
            asked = list(self._misses(batch, words, found, waiting))
            yield from _drain(found)

        def fresh() -> Iterator[Request]:
            yield from asked
            for request in requests:
                yield from self._misses([request], words, found, waiting)

        session = self._session(engine)
        started = time.monotonic()
        for answers in session.complete(fresh()):
            keyed = [(answered.request.key(words), answered.completion) for answered in answers]
            self.memo.put(words, {key: completion for key, completion in keyed if not completion.error})
            for key, completion in keyed:
                self.usage["asked"] += 1
                self.usage["prompt_tokens"] += completion.prompt_tokens
                self.usage["completion_tokens"] += completion.completion_tokens
                for request in waiting.pop(key):
                    yield Answered(request, completion)
            yield from _drain(found)
        yield from _drain(found)
        self.usage["engine_seconds"] += round(time.monotonic() - started)

    def _misses(
        self, batch: list[Request], words: dict[str, str], found: deque[Answered], waiting: dict[str, list[Request]]
    ) -> Iterator[Request]:
        """The requests of a batch nobody has answered; equal ones are asked once."""
        keys = [request.key(words) for request in batch]
        known = self.memo.get(set(keys))
        for request, key in zip(batch, keys, strict=True):
            if key in known:
                self.usage["remembered"] += 1
                found.append(Answered(request, known[key]))
            elif key in waiting:
                waiting[key].append(request)
            else:
                waiting[key] = [request]
                yield request

    def use(self, engine: Engine, session: Session) -> None:
        """Ask `engine` through a session that is open already."""
        self._sessions[engine.model_dump_json()] = session

    def _session(self, engine: Engine) -> Session:
        key = engine.model_dump_json()
        if key not in self._sessions:
            self.run.create()
            log = self.run.logs / f"{getattr(engine, 'kind', 'engine')}.log"
            started = time.monotonic()
            console.say(f"loading {engine.model} (log: {log})")
            self._sessions[key] = engine.open(log)
            console.say(f"loaded {engine.model} in {console.clock(time.monotonic() - started)}")
        return self._sessions[key]


def _drain(found: deque[Answered]) -> Iterator[Answered]:
    while found:
        yield found.popleft()
