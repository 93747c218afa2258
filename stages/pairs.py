"""Preference pairs of a filter version: of the answers to one prompt, the best kept one and the worst.

`pairs-00000.jsonl` (training split) and `heldout_pairs-00000.jsonl` hold what TRL's DPOTrainer reads: `prompt`,
`chosen` and `rejected` as lists of messages. An answer takes part when the rule has measured it: it was kept, or that
rule dropped it. The chosen one is always a kept row.
"""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import Field

from filters.verdicts import UNMEASURED
from pipeline import console
from pipeline.component import Component
from pipeline.records import Record, Split, digest
from pipeline.store import write_atomic

FILES: dict[Split, str] = {"train": "pairs-00000.jsonl", "heldout": "heldout_pairs-00000.jsonl"}


class Pairs(Component):
    """The best and the worst answer to each prompt, for preference training."""

    by: Annotated[str, Field(description="the rule whose measure orders the answers; more is better")] = "judge"
    min_margin: Annotated[float, Field(gt=0, description="least difference between chosen and rejected")] = 0.5


class Candidate(NamedTuple):
    """One answer and how it was measured."""

    score: float
    id: str
    answer: dict[str, Any]
    kept: bool


class Rivals:
    """The best and the worst answer to one prompt so far."""

    def __init__(self, record: Record) -> None:
        self.split: Split = record.split
        self.prompt = [m.model_dump() for m in record.messages[:-1]]
        self.best: Candidate | None = None
        self.worst: Candidate | None = None

    def add(self, one: Candidate) -> None:
        """Take an answer in; of equal scores the first stays."""
        if one.kept and (self.best is None or one.score > self.best.score):
            self.best = one
        if self.worst is None or one.score < self.worst.score:
            self.worst = one

    def pair(self, min_margin: float) -> dict[str, Any] | None:
        """The line of the file; None where the answers lie too close."""
        best, worst = self.best, self.worst
        if best is None or worst is None or best.score - worst.score < min_margin:
            return None
        return {
            "id": digest([best.id, worst.id]),
            "prompt": self.prompt,
            "chosen": [best.answer],
            "rejected": [worst.answer],
            "chosen_score": best.score,
            "rejected_score": worst.score,
            "chosen_id": best.id,
            "rejected_id": worst.id,
            "split": self.split,
        }


class PairWriter:
    """Sees every row a filter stage writes, and writes the pairs at its end. Memory: two answers a prompt."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._rivals: dict[str, Rivals] = {}

    def see(self, record: Record) -> None:
        """One row, kept or dropped."""
        score = self._measured(record)
        if score is None or len(record.messages) < 2 or record.messages[-1].role != "assistant":
            return
        key = digest([record.task, record.split, [m.model_dump() for m in record.messages[:-1]]])
        if key not in self._rivals:
            self._rivals[key] = Rivals(record)
        self._rivals[key].add(Candidate(score, record.id, record.messages[-1].model_dump(), not record.dropped))

    def _measured(self, record: Record) -> float | None:
        if record.dropped and (record.by != self._pairs.by or record.reason in UNMEASURED):
            return None
        return record.scored(self._pairs.by)

    def write(self, folder: Path) -> dict[str, int]:
        """The two files, where there is something to write, and the counts for the manifest."""
        lines: dict[Split, bytearray] = {"train": bytearray(), "heldout": bytearray()}
        counts = {"prompts": len(self._rivals), "train": 0, "heldout": 0}
        for key in list(self._rivals):  # given up one by one: the lines take their place in memory
            rivals = self._rivals.pop(key)
            if row := rivals.pair(self._pairs.min_margin):
                lines[rivals.split] += orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
                counts[rivals.split] += 1
        for split, written in lines.items():
            if written:
                write_atomic(folder / FILES[split], bytes(written))
        if not any(lines.values()):
            console.warn(
                f"filter.pairs: no pair among {counts['prompts']:,} prompts; none has a kept answer and another one "
                f"at least {self._pairs.min_margin:g} below it by {self._pairs.by!r}"
            )
        return {"prompts": counts["prompts"], "pairs": counts["train"], "heldout": counts["heldout"]}
