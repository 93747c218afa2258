"""Runs the scripts of a task: thousands side by side, every engine kept full, results in the order of the seeds.

An answer that cannot be read is asked for again, with another seed of randomness, as often as `retries` says. Which
questions are asked depends on the seeds and the answers alone, never on the order in which answers arrive.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pipeline.engines import Answered, Engine, Request
from pipeline.errors import UsageError
from pipeline.job import Job, Retry
from pipeline.records import Message, Seed, digest
from stages.sampling import VariedSampling
from stages.tasks.base import By, Example, Failed, Got, Question, Script, Task, Unreadable, answer
from stages.tasks.thinking import apart


class Asking(NamedTuple):
    """How the questions of a stage are asked."""

    sampling: VariedSampling
    retries: int
    truncated: Literal["drop", "keep"]
    chat_template_kwargs: Mapping[str, Any]
    retry: frozenset[Retry] = frozenset()


class Spent(NamedTuple):
    """What a script has used, remembered answers counted like fresh ones."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def plus(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
        )


class Slot:
    """One question of a script on its way to an outcome."""

    def __init__(self, question: Question, place: int) -> None:
        self.question, self.place, self.attempt = question, place, 0
        self.outcome: Got | Failed | None = None


class Unit:
    """One script: a seed and which sample of it."""

    def __init__(self, index: int, seed: Seed, sample: int, script: Script, sampling: Any) -> None:
        self.index, self.seed, self.sample, self.sampling = index, seed, sample, sampling
        self.script = script
        self.slots: list[Slot] = []
        self.single, self.done, self.steps = True, False, 0
        self.asked: tuple[Message, ...] = ()  # the first question's messages: what ids are made from
        self.last: By | None = None
        self.spent = Spent()
        self.examples: list[Example] = []


def chance_for(seed: int, of: Seed, sample: int) -> random.Random:
    """A source of randomness of a script's own, from the plan's seed."""
    return random.Random(digest([seed, of.id, sample]))


class Scripts:
    """The scripts of one task over a stream of (seed, sample)."""

    def __init__(self, job: Job, task: Task, asking: Asking, starts: Iterator[tuple[Seed, int]], memory: Any) -> None:
        self._job, self._task, self._asking, self._starts, self._memory = job, task, asking, starts, memory
        self._room = min(job.window, task.lag or job.window)
        self._views = deque([memory.now()] * self._room if task.lag else [])  # for the scripts that may begin
        self._order: deque[Unit] = deque()
        self._pending: dict[str, deque[tuple[Unit, Slot]]] = {}
        self._flying: dict[str, int] = {}
        self._engines: dict[str, Engine] = {}
        self._waiting: dict[str, tuple[Unit, Slot]] = {}
        self._begun = self._emitted = 0
        self._dry = False

    def units(self) -> Iterator[Unit]:
        """Finished units in order, their examples settled."""
        while True:
            while not any(self._pending.values()) and self._start():
                pass
            yield from self._finished()
            name = next((name for name, queue in self._pending.items() if queue), None)
            if name is None:
                if self._dry and not self._order:
                    return
                continue
            for answered in self._job.answers(self._engines[name], self._requests(name)):
                self._take(name, answered)
                yield from self._finished()

    def _finished(self) -> Iterator[Unit]:
        while self._order and self._order[0].done:
            unit = self._order.popleft()
            unit.examples = [self._task.settle(example, self._memory) for example in unit.examples]
            self._emitted += 1
            if self._task.lag:
                self._views.append(self._memory.now())
            yield unit

    def _requests(self, name: str) -> Iterator[Request | None]:
        """Requests for one engine until nothing waits for it; what goes on comes before what is new."""
        while True:
            if self._pending[name]:
                yield self._send(name, *self._pending[name].popleft())
            elif not self._start():
                if not self._flying.get(name):
                    return
                yield None

    def _start(self) -> bool:
        """Begin one more script where that is allowed."""
        if self._dry or self._begun >= self._emitted + self._room:
            return False
        start = next(self._starts, None)
        if start is None:
            self._dry = True
            return False
        seed, sample = start
        chance = chance_for(self._job.seed, seed, sample)
        varied = self._asking.sampling
        sampling = varied.fixed or varied.draw(chance_for(self._job.seed, seed, -1), sample)
        memory = self._views.popleft() if self._task.lag else self._memory
        unit = Unit(self._begun, seed, sample, self._task.script(seed, chance, memory), sampling)
        self._begun += 1
        self._order.append(unit)
        self._advance(unit, lambda: next(unit.script))
        return True

    def _advance(self, unit: Unit, step: Any) -> None:
        """Let a script run to its next questions, or to its end."""
        try:
            asked = step()
        except StopIteration as end:
            unit.examples, unit.done = end.value, True
            return
        except Unreadable as problem:
            unit.examples = [self._dropped(unit, problem)]
            unit.done = True
            return
        unit.single = isinstance(asked, Question)
        questions = [asked] if unit.single else asked
        if not questions:
            self._advance(unit, lambda: unit.script.send([]))
            return
        unit.asked = unit.asked or questions[0].messages
        unit.slots = [Slot(question, place) for place, question in enumerate(questions)]
        for slot in unit.slots:
            self._queue(unit, slot)

    def _queue(self, unit: Unit, slot: Slot) -> None:
        engine = slot.question.engine or self._job.teacher
        if engine is None:
            raise UsageError("the plan has no teacher", hint="give it one: teacher: {kind: vllm, model: ...}")
        name = engine.model_dump_json()
        self._engines.setdefault(name, engine)
        self._pending.setdefault(name, deque()).append((unit, slot))

    def _send(self, name: str, unit: Unit, slot: Slot) -> Request:
        question = slot.question
        said = [m.model_dump() for m in question.messages]
        nth = [slot.attempt, slot.place] if slot.attempt or slot.place else []
        handle = f"{unit.index}.{unit.steps}.{slot.place}.{slot.attempt}"
        self._waiting[handle] = (unit, slot)
        self._flying[name] = self._flying.get(name, 0) + 1
        return Request(
            id=handle,
            messages=question.messages,
            sampling=unit.sampling.model_copy(update=dict(question.sampling)) if question.sampling else unit.sampling,
            seed=int(digest([self._job.seed, said, unit.sample, *nth], 7), 16),
            sample=unit.sample,
            choices=question.choices,
            json_schema=question.json_schema,
            open_user=question.open_user,
            top_logprobs=self._asking.sampling.top_logprobs,
            chat_template_kwargs=dict(self._asking.chat_template_kwargs),
        )

    def _take(self, name: str, answered: Answered) -> None:
        """Read an answer; ask again or hand it to its script."""
        self._flying[name] -= 1
        unit, slot = self._waiting.pop(answered.request.id)
        by = By(answered, slot.question.engine)
        used = answered.completion.prompt_tokens, answered.completion.completion_tokens
        unit.spent = unit.spent.plus(Spent(1, *used, self._engines[name].price.of(*used)))
        try:
            slot.outcome = Got(self._read(slot.question, answered), by)
        except Unreadable as problem:
            if slot.attempt < self._attempts(problem.reason):
                slot.attempt += 1
                self._queue(unit, slot)
                return
            kept = slot.question.messages if slot.question.kept is None else slot.question.kept
            shown = [*kept, answer(apart(answered.completion).text.strip())]
            slot.outcome = Failed(problem.reason, problem.detail, shown, by)
        unit.last = by
        outcomes = [s.outcome for s in unit.slots if s.outcome is not None]
        if len(outcomes) < len(unit.slots):
            return
        unit.steps += 1
        self._hand_over(unit, outcomes)

    def _hand_over(self, unit: Unit, outcomes: list[Got | Failed]) -> None:
        first = outcomes[0]
        if not unit.single:
            self._advance(unit, lambda: unit.script.send(outcomes))
        elif isinstance(first, Got):
            self._advance(unit, lambda: unit.script.send(first.value))
        else:
            self._advance(unit, lambda: unit.script.throw(Unreadable(first.reason, first.detail)))

    def _read(self, question: Question, answered: Answered) -> Any:
        completion = apart(answered.completion)
        if completion.error:
            raise Unreadable("no_answer", completion.error)
        cut = completion.finish_reason == "length"
        problem = Unreadable("truncated", f"cut after {completion.completion_tokens} tokens")
        try:
            value = question.read(completion)
        except Unreadable as unreadable:
            raise problem if cut else unreadable from None
        if cut and self._asking.truncated == "drop":
            raise problem
        return value

    def _attempts(self, reason: str) -> int:
        """How often an answer that failed so is asked for again."""
        sort = retried(reason)
        if sort == "failed":
            return 0  # the engine has tried as often as it may; what failed is not remembered
        return (self._asking.retries if sort == "unreadable" else 0) + (sort in self._asking.retry)

    def _dropped(self, unit: Unit, problem: Unreadable) -> Example:
        failed = next((s.outcome for s in unit.slots if isinstance(s.outcome, Failed)), None)
        if failed is not None:
            return Example(failed.messages, reason=problem.reason, detail=problem.detail, by=failed.by)
        return Example(list(unit.asked) or [answer("")], reason=problem.reason, detail=problem.detail, by=unit.last)


def retried(reason: str) -> Retry:
    """Which sort of `--retry` asks again for an answer that was dropped for `reason`."""
    sorts: dict[str, Retry] = {"no_answer": "failed", "truncated": "truncated"}
    return sorts.get(reason, "unreadable")
