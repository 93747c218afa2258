"""Rates over the last answers, while they arrive: mode collapse and failing servers show at once.

Counted in the order of the seeds, so a threshold stops a run at the same row every time.
"""

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from filters.text import normal, words
from pipeline.component import Component
from pipeline.errors import PipelineError
from pipeline.records import Record


class Watch(Component):
    """Rates over a rolling window; a threshold that is passed stops the run. Answers stay remembered."""

    window: Annotated[int, Field(ge=10, description="answers the rates are taken over")] = 200
    max_failed: Annotated[float | None, Field(ge=0, le=1, description="share without an answer")] = 0.5
    max_truncated: Annotated[float | None, Field(ge=0, le=1, description="share cut by max_tokens")] = None
    max_unreadable: Annotated[float | None, Field(ge=0, le=1, description="share that could not be read")] = None
    max_duplicates: Annotated[float | None, Field(ge=0, le=1, description="share that repeats another answer")] = None
    min_distinct: Annotated[float | None, Field(ge=0, le=1, description="distinct word pairs over all word pairs")] = (
        None
    )


class _Seen(NamedTuple):
    reason: str
    text: str
    pairs: Counter[tuple[str, str]]


class Watching:
    """The rolling rates of one run."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._rows: deque[_Seen] = deque()
        self._texts: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._reasons: Counter[str] = Counter()
        self._said = self._paired = 0

    def over(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each counted as it passes. Raises PipelineError where a threshold is passed."""
        for record in records:
            self.add(record)
            yield record
            if len(self._rows) == self._watch.window and (problem := self._crossed()):
                raise PipelineError(
                    f"stopped by generate.watch: {problem}, over the last {self._watch.window} answers",
                    hint="change the prompt, the sampling or the threshold; what was answered is remembered",
                )

    def add(self, record: Record) -> None:
        """Take one row in, and the oldest out once the window is full."""
        text = normal(record.answer) if record.reason != "no_answer" else ""
        tokens = words(text)
        row = _Seen(_sort(record.reason), text, Counter(itertools.pairwise(tokens)))
        self._rows.append(row)
        self._tally(row, 1)
        if len(self._rows) > self._watch.window:
            self._tally(self._rows.popleft(), -1)

    def rates(self) -> dict[str, float]:
        """Shares over the window; `distinct_2` is distinct word pairs over all word pairs (Li et al. 2016)."""
        rows = max(1, len(self._rows))
        shares = {name: self._reasons[name] / rows for name in ("failed", "truncated", "unreadable")}
        found = shares | {
            "duplicates": (self._said - len(self._texts)) / max(1, self._said),
            "distinct_2": len(self._pairs) / self._paired if self._paired else 1.0,
        }
        return {name: round(share, 4) for name, share in found.items()}

    def line(self) -> str:
        """The rates as one line beside a progress bar."""
        rates = self.rates()
        shares = [f"{rates[n]:.0%} {n}" for n in ("failed", "truncated", "unreadable", "duplicates") if rates[n]]
        return ", ".join([f"distinct-2 {rates['distinct_2']:.2f}", *shares])

    def _tally(self, row: _Seen, step: int) -> None:
        _add(self._reasons, {row.reason: step})
        if row.text:
            _add(self._texts, {row.text: step})
            self._said += step
        _add(self._pairs, {pair: step * n for pair, n in row.pairs.items()})
        self._paired += step * row.pairs.total()

    def _crossed(self) -> str:
        rates, watch = self.rates(), self._watch
        for name in ("failed", "truncated", "unreadable", "duplicates"):
            limit = getattr(watch, f"max_{name}")
            if limit is not None and rates[name] > limit:
                return f"{rates[name]:.0%} {name} (max_{name} {limit:.0%})"
        if watch.min_distinct is not None and rates["distinct_2"] < watch.min_distinct:
            return f"distinct-2 {rates['distinct_2']:.2f} (min_distinct {watch.min_distinct:.2f})"
        return ""


def _sort(reason: str) -> str:
    return {"": "", "no_answer": "failed", "truncated": "truncated"}.get(reason, "unreadable")


def _add(counts: Counter[Any], more: dict[Any, int]) -> None:
    for key, step in more.items():
        counts[key] += step
        if not counts[key]:
            del counts[key]
