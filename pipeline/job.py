"""What a stage gets to do its work: the run, the seed, models to ask, and where to write.

`ask` is the one way to a model: the memo first, the engine for the rest, each completion durable before
it is seen, answers in the order of the requests. Engines open on the first miss and stay open until
`close_engines`, so that a run loads the teacher once.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

from pipeline import console
from pipeline.engines import Answered, Completion, Engine, Request, Session
from pipeline.engines.base import Source
from pipeline.errors import UsageError
from pipeline.memo import Memo, Place
from pipeline.run import Run

Retry = Literal["failed", "truncated", "unreadable"]
"""Which answers a run asks for once more although it has them."""
LOOKUP = 256  # requests looked up in the memo at once


class Job:
    """One invocation over one run."""

    window = 4096
    """Scripts under way at once: what bounds memory, far above what an engine takes."""

    def __init__(
        self,
        run: Run,
        seed: int,
        teacher: Engine | None,
        limit: int | None = None,
        retry: frozenset[Retry] = frozenset(),
    ) -> None:
        self.run, self.seed, self.teacher, self.limit, self.retry = run, seed, teacher, limit, retry
        self.usage: defaultdict[str, float] = defaultdict(float)
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

    def spent(self) -> dict[str, float]:
        """What the stage has used so far: counts as whole numbers, seconds and cost rounded."""
        digits = {"engine_seconds": 1, "embed_seconds": 1, "cost": 6}
        return {
            name: round(value, digits[name]) if name in digits else int(value) for name, value in self.usage.items()
        }

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

        for answered in self.answers(engine, noted()):
            done[id(answered.request)] = answered.completion
            while order and id(order[0]) in done:
                request = order.popleft()
                yield Answered(request, done.pop(id(request)))

    def answers(self, engine: Engine, requests: Iterable[Request | None]) -> Iterator[Answered]:
        """Remembered answers as they are found, fresh ones as they arrive, in any order.

        None among the requests means that there will be more once the caller has seen further answers.
        """
        words = engine.words()
        source = Source(requests)
        found: deque[Answered] = deque()
        waiting: dict[Place, list[Request]] = {}
        asked: list[Request] = []
        while not asked:  # what is remembered streams through before an engine is opened
            batch = list(islice(iter(source.next, None), LOOKUP))
            if not batch and source.exhausted:
                return
            asked = list(self._misses(batch, words, found, waiting))
            yield from _drain(found)

        def fresh() -> Iterator[Request | None]:
            yield from asked
            while (request := source.next()) is not None or not source.exhausted:
                if request is None:
                    yield None
                else:
                    yield from self._misses([request], words, found, waiting)

        session = self._session(engine)
        started = time.monotonic()
        for finished in session.complete(fresh()):
            placed = [(_place(answered.request, words), answered.completion) for answered in finished]
            self.memo.put(words, {place: completion for place, completion in placed if not completion.error})
            for place, completion in placed:
                self._count(engine, completion)
                for request in waiting.pop(place):
                    yield Answered(request, completion)
            yield from _drain(found)
        yield from _drain(found)
        self.usage["engine_seconds"] += time.monotonic() - started

    def _count(self, engine: Engine, completion: Completion) -> None:
        self.usage["asked"] += 1
        self.usage["prompt_tokens"] += completion.prompt_tokens
        self.usage["completion_tokens"] += completion.completion_tokens
        if cost := engine.price.of(completion.prompt_tokens, completion.completion_tokens):
            self.usage["cost"] += cost

    def _misses(
        self, batch: list[Request], words: dict[str, str], found: deque[Answered], waiting: dict[Place, list[Request]]
    ) -> Iterator[Request]:
        """The requests of a batch nobody has answered; equal ones are asked once."""
        places = [_place(request, words) for request in batch]
        known = self.memo.get(set(places))
        for request, place in zip(batch, places, strict=True):
            if place in known:
                self.usage["remembered"] += 1
                found.append(Answered(request, known[place]))
            elif place in waiting:
                waiting[place].append(request)
            else:
                waiting[place] = [request]
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


def _place(request: Request, words: dict[str, str]) -> Place:
    return request.key(words), request.sampling.max_tokens


def _drain(found: deque[Answered]) -> Iterator[Answered]:
    while found:
        yield found.popleft()
