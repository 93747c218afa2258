"""Held-out prompts that were trained on: they say nothing about the student, and are left out of every figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from filters.text import normal
from filters.verdicts import before_answer
from pipeline.records import Record, digest


def trained_prompts(rows: Path, prefixes: Sequence[str] = ()) -> set[str]:
    """Digests of the prompts of training rows. `prefixes`: what an objective has put before them."""
    found: set[str] = set()
    with rows.open("rb") as file:
        for line in file:
            turns = _asked(orjson.loads(line))
            found.add(_digest(turns))
            said = turns[-1]["content"] if turns else ""
            plain = [said[len(prefix) :] for prefix in prefixes if prefix and said.startswith(prefix)]
            found.update(_digest([*turns[:-1], turns[-1] | {"content": text}]) for text in plain)
    return found


def prompts(records: Iterable[Record]) -> set[str]:
    """Digests of what records ask."""
    return {_digest(turn.model_dump() for turn in before_answer(record)) for record in records}


def leaked(record: Record, trained: set[str]) -> bool:
    """Whether what a record asks was trained on, but for case, width and white space; system turns do not count."""
    asked = [turn.model_dump() for turn in before_answer(record) if turn.role != "system"]
    return bool(asked) and _digest(asked) in trained


def _asked(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The turns before the answer of a training row, in any of the shapes that objectives write."""
    if isinstance(prompt := row.get("prompt"), str):
        return [{"role": "user", "content": prompt}]
    turns = list(prompt or row.get("messages") or row.get("chosen") or [])
    return turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns


def _digest(turns: Iterable[dict[str, Any]]) -> str:
    return digest([[turn["role"], normal(turn["content"])] for turn in turns if turn["role"] != "system"])
