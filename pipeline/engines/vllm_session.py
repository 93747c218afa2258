"""An open vLLM engine: fed continuously, and outliving the prompts that kill it.

When the engine dies it is opened again, and the requests that were under way go back in halves, one half at a time,
until the one that dies alone is found: that one comes back with `error` set, the others with their answers. Where
memory ran out, all go back, into an engine of half as many sequences.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import console
from pipeline.engines.base import Answered, Completion, Request, Source
from pipeline.engines.chat import token_ids
from pipeline.engines.inflight import InFlight
from pipeline.engines.vllm_core import Core, Failure, completion
from pipeline.errors import ModelError
from pipeline.models import Model
from pipeline.records import digest

IN_A_ROW = 3  # requests that kill the engine alone with no answer in between: it is the engine, not they
REOPENINGS = 100  # in one session


class Asked(NamedTuple):
    """A request on its way, and where its answer goes."""

    request: Request
    ids: list[int]
    owner: deque[Answered]


class Suspects:
    """After a crash: the groups in which the requests that were under way are tried, one group at a time."""

    def __init__(self) -> None:
        self._groups: deque[list[str]] = deque()
        self._tried: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._groups or self._tried)

    def accuse(self, serial: str, together: int) -> None:
        """Try this one too, with others like it, `together` at most."""
        if not self._groups or len(self._groups[-1]) >= together:
            self._groups.append([])
        self._groups[-1].append(serial)

    def next(self) -> list[str]:
        """The group to be tried now; empty when there is none left, and all are free to run together."""
        self._tried = self._groups.popleft() if self._groups else []
        return list(self._tried)

    def crashed(self, unanswered: Sequence[str]) -> str:
        """The engine died over `unanswered`; the serial of the one whose fault it was, once it was alone."""
        tried, self._tried = self._tried, []
        if len(tried) == 1 and tried == list(unanswered):
            return tried[0]
        middle = (len(unanswered) + 1) // 2
        halves = [list(unanswered[:middle]), list(unanswered[middle:])]
        self._groups.extendleft(half for half in reversed(halves) if half)
        return ""

    def forget(self, gone: set[str]) -> None:
        """Nobody waits for these any more."""
        self._groups = deque(left for group in self._groups if (left := [s for s in group if s not in gone]))


class VllmSession:
    """An open engine: an iterator over requests feeds it, finished answers come out at once."""

    def __init__(self, model: Model, arguments: dict[str, Any], log: Path | None) -> None:
        self._core = Core(model, arguments, log)
        name = f"{log.stem}-{digest(model.name)[:8]}.inflight" if log else ""
        self._in_flight = InFlight(log.with_name(name) if log else None)
        self._log = log
        self._tokenizer = self.llm.get_tokenizer()
        self._limit = int(self.llm.model_config.max_model_len)
        self._asked: dict[str, Asked] = {}
        self._queue: deque[str] = deque()  # not handed over yet
        self._inside: dict[str, None] = {}  # handed over; a dict for its order
        self._suspects = Suspects()
        self._serial = self._reopened = self._alone = 0

    @property
    def llm(self) -> Any:
        """vLLM's own `LLM`."""
        return self._core.llm

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """Keep the engine full; yield answers as soon as their last token is there.

        Several calls may be under way at once (two judges in one chain): each gets its own answers.
        """
        source = Source(requests)
        ready: deque[Answered] = deque()
        mine: set[str] = set()
        try:
            while True:
                while len(mine) < 2 * self._core.max_num_seqs and (request := source.next()) is not None:
                    if serial := self._take(request, ready):
                        mine.add(serial)
                if ready or not mine:
                    finished = list(ready)
                    ready.clear()
                    yield finished
                if not mine:
                    if source.exhausted:
                        return
                    continue
                self._step()
                mine.intersection_update(self._asked)
        finally:
            self._drop(mine)  # the caller stopped early

    def _take(self, request: Request, ready: deque[Answered]) -> str:
        """Queue one request and return its serial; one that cannot be asked is ready, failed."""
        if self._in_flight.guilty(request):
            ready.append(Answered(request, Completion(error="crashed the process of the run before this one")))
            return ""
        try:
            ids = token_ids(self._tokenizer, request)
        except Exception as error:  # a chat template is code of the model's maker: any error is its own
            ready.append(Answered(request, Completion(error=f"chat template: {error}")))
            return ""
        if len(ids) + request.sampling.max_tokens > self._limit:
            problem = (
                f"a prompt of {len(ids)} tokens and max_tokens {request.sampling.max_tokens} "
                f"pass max_model_len {self._limit}"
            )
            ready.append(Answered(request, Completion(error=problem)))
            return ""
        self._serial += 1
        serial = str(self._serial)
        self._asked[serial] = Asked(request, ids, ready)
        if self._in_flight.suspected(request):
            self._suspects.accuse(serial, self._in_flight.group())
        else:
            self._queue.append(serial)
        return serial

    def _step(self) -> None:
        """Hand over what may go in, decode one token of all that runs, hand finished answers to whoever asked."""
        failure = None
        with console.silenced(self._log):
            try:
                self._feed()
                outputs = self._core.step()
            except Exception as error:  # the engine is gone, whatever the reason
                failure = Failure.of(error)
        if failure is not None:  # outside the handler: the traceback held the engine
            self._recover(failure)
            return
        for serial, output in outputs:
            if serial in self._asked:
                self._alone = 0
                self._finish(serial, completion(output, self._asked[serial].request))

    def _feed(self) -> None:
        """Everything that is queued; after a crash, group by group what is under suspicion."""
        if self._suspects and self._inside:
            return
        batch = self._suspects.next()
        if not batch:
            batch = list(self._queue)
            self._queue.clear()
        self._inside.update(dict.fromkeys(batch))
        for serial in batch:
            self._in_flight.enter(self._asked[serial].request)
        for serial in batch:
            asked = self._asked[serial]
            if refused := self._core.add(serial, asked.ids, asked.request):
                self._finish(serial, Completion(error=refused))

    def _finish(self, serial: str, made: Completion) -> None:
        self._out(serial)
        asked = self._asked.pop(serial)
        asked.owner.append(Answered(asked.request, made))

    def _out(self, serial: str) -> None:
        if serial in self._inside:
            del self._inside[serial]
            self._in_flight.leave(self._asked[serial].request)

    def _recover(self, failure: Failure) -> None:
        """Open a fresh engine and put back what was under way. Raises ModelError where there is no sense in it."""
        under_way = list(self._inside)
        self._core.close()
        if failure.memory:
            if not self._core.halve(f"decoding {len(under_way)} requests", failure):
                raise self._died(failure, under_way)
            self._queue.extendleft(reversed(under_way))
        else:
            if not self._suspects:
                console.warn(f"vLLM died over {len(under_way)} requests, looking for the one it is: {failure.text}")
            if culprit := self._suspects.crashed(under_way):
                self._convict(culprit, failure)
        self._reopened += 1
        if self._reopened > REOPENINGS:
            raise self._died(failure, under_way)
        try:
            self._core.open()
        except ModelError as error:
            self._in_flight.give_up(str(error))
            raise
        for serial in under_way:
            self._out(serial)

    def _convict(self, culprit: str, failure: Failure) -> None:
        self._alone += 1
        if self._alone == IN_A_ROW:
            raise self._died(failure, [culprit])
        request = self._asked[culprit].request
        console.warn(f"request {request.id} crashed the engine and goes without an answer: {failure.text}")
        self._finish(culprit, Completion(error=f"crashed the engine: {failure.text}"))

    def _died(self, failure: Failure, under_way: list[str]) -> ModelError:
        again = f", after {self._reopened} times of opening it again" if self._reopened else ""
        return ModelError(
            f"vLLM died while it decoded {len(under_way)} requests{again}: {failure.text}",
            hint=f"its log is {self._log}; the same command goes on from what was answered",
        )

    def _drop(self, serials: set[str]) -> None:
        """Forget requests whose caller is gone."""
        if decoding := serials & self._inside.keys():
            self._core.abort(list(decoding))
        self._suspects.forget(serials)
        self._queue = deque(serial for serial in self._queue if serial not in serials)
        for serial in serials:
            self._out(serial)
            self._asked.pop(serial, None)

    def close(self) -> None:
        """Drop the engine and give its memory back."""
        self._core.close()
        self._in_flight.close()
