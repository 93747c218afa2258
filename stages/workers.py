"""Per-record rules over raw lines, in this process or in several; rows come back in order.

A line is parsed, judged and written out again by one worker, so the main process only moves bytes.
"""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import NamedTuple

from filters.base import Filter
from pipeline.records import Check, Record
from pipeline.store import Shard, Tally, shard_of
from stages.intake import Raw, record_of

CHUNK = 256  # lines handed to a worker at once
WORTH = 4000  # lines from which the half second that a worker takes to start pays
AHEAD = 3  # chunks under way for each worker


class Passed(NamedTuple):
    """A row after the rules, written out."""

    line: bytes
    id: str
    shard: Shard


class Sieve(NamedTuple):
    """The rules, in order. With `everything` a dropped row is measured by the rest of them, too."""

    rules: Sequence[Filter]
    everything: bool = False

    def sift(self, chunk: Iterable[Raw]) -> tuple[list[Passed], Tally, list[Tally]]:
        """Rows, how many lines could be read, and the tally of each rule."""
        read, tallies = Tally(step="read"), [Tally(step=rule.label) for rule in self.rules]
        rows = []
        for raw in chunk:
            record = record_of(raw)
            read.count(Check(name="read", passed=not record.dropped, reason=record.reason))
            if not record.dropped:
                record = self._judge(record, tallies)
            rows.append(Passed(record.line(), record.id, shard_of(record)))
        return rows, read, tallies

    def _judge(self, record: Record, tallies: list[Tally]) -> Record:
        for rule, tally in zip(self.rules, tallies, strict=True):
            if record.dropped and not self.everything:
                break
            check = rule.judge(record)
            if not record.dropped:
                tally.count(check)
            record = record.checked(check)
            record = record if record.dropped else rule.mend(record)
        return record


def sifted(
    lines: Iterator[Raw], sieve: Sieve, workers: int, read: Tally, tallies: list[Tally]
) -> Iterator[list[Passed]]:
    """Chunks of rows in the order of `lines`; the tallies grow with every chunk."""
    chunks = _chunks(lines)
    head = list(itertools.islice(chunks, WORTH // CHUNK))
    several = workers > 1 and len(head) == WORTH // CHUNK
    rest = itertools.chain(head, chunks)
    for rows, was_read, more in _side_by_side(rest, sieve, workers) if several else map(sieve.sift, rest):
        read.add(was_read)
        for tally, counted in zip(tallies, more, strict=True):
            tally.add(counted)
        yield rows


def _chunks(lines: Iterator[Raw]) -> Iterator[list[Raw]]:
    while chunk := list(itertools.islice(lines, CHUNK)):
        yield chunk


def _side_by_side(
    chunks: Iterator[list[Raw]], sieve: Sieve, workers: int
) -> Iterator[tuple[list[Passed], Tally, list[Tally]]]:
    """A few chunks ahead of what is taken, so memory stays bounded."""
    spawning = multiprocessing.get_context("spawn")  # a fork would copy threads that vLLM and torch may have started
    with ProcessPoolExecutor(workers, spawning, _begin, (sieve,)) as pool:
        try:
            running: deque[Future[tuple[list[Passed], Tally, list[Tally]]]] = deque()
            for chunk in chunks:
                running.append(pool.submit(_work, chunk))
                if len(running) >= workers * AHEAD:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_sieve: Sieve | None = None


def _begin(sieve: Sieve) -> None:
    """What a worker does first: it leaves Ctrl-C to its parent, and ends when its parent is gone."""
    global _sieve
    _sieve = sieve
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has one"
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _work(chunk: list[Raw]) -> tuple[list[Passed], Tally, list[Tally]]:
    assert _sieve is not None, "`_begin` has run"
    return _sieve.sift(chunk)
