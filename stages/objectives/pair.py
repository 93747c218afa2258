"""Preference pairs as training rows: two answers to one prompt, the chosen one and the rejected.

They come from a filter version, whose judge found the best and the worst answer, or from a file in any of TRL's forms:
text, turns, or two whole conversations that differ in their last turn.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from pipeline.errors import UsageError
from pipeline.records import Record
from pipeline.store import Version
from stages.base import Rows
from stages.intake import FileRows, Ids, Raw, to_record
from stages.objectives.base import Left
from stages.pairs import FILES

COLUMNS = {"chosen", "rejected"}
BOM = b"\xef\xbb\xbf"


def paired(record: Record, rejected: str) -> dict[str, Any] | Left:
    """A row of a record, whose answer is the chosen one; none where the two say the same, or one says nothing."""
    if not record.answer.strip() or not rejected.strip():
        return Left(record.id, "empty_answer")
    if record.answer.strip() == rejected.strip():
        return Left(record.id, "same_answer")
    return row(record, rejected)


def row(record: Record, rejected: str) -> dict[str, Any]:
    """TRL's conversational form. The record ends with an answer."""
    turns = [m.model_dump() for m in record.messages]
    turn = {"role": "assistant", "content": rejected}
    return {"id": record.id, "prompt": turns[:-1], "chosen": turns[-1:], "rejected": [turn]}


def judged(rows: Rows, version: Version) -> Iterator[dict[str, Any] | Left]:
    """The rows of a stage that are the chosen answer of a pair of `version`, in their order.

    Raises UsageError where the filter version has no pairs.
    """
    rejected = {pair["chosen_id"]: pair["rejected"][0]["content"] for pair in _written(version)}
    for record in rows.read("kept"):
        yield paired(record, rejected[record.id]) if record.id in rejected else Left(record.id, "no_pair")


def _written(version: Version) -> Iterator[dict[str, Any]]:
    info = next((f for f in version.manifest.files if f.file == FILES["train"]), None)
    if info is None:
        asked = (version.manifest.settings.get("filter") or {}).get("pairs")
        raise UsageError(
            f"filter {version.name} holds no preference pairs" + (": no prompt has two answers far enough apart"
            if asked else ""),
            hint="lower filter.pairs.min_margin, or have more answers to a prompt: generate.samples; or pairs: student"
            if asked else "filter.pairs: {} writes them; or let the student's answers be the rejected ones: "
            "pairs: student",
        )  # fmt: skip
    version.verify(info)
    with (version.path / info.file).open("rb") as file:
        yield from map(orjson.loads, file)


def holds_pairs(rows: FileRows) -> bool:
    """Whether the first line of a file is a pair."""
    first = next(rows.raw(), None)
    return first is not None and _object(first).keys() >= COLUMNS


def filed(rows: FileRows) -> Iterator[dict[str, Any] | Left]:
    """The pairs of a file. Raises UsageError with file and line at one that is none."""
    ids = Ids()
    for raw in rows.raw():
        pair = _object(raw)
        chosen, rejected = (_whole(pair, column, raw.where) for column in ("chosen", "rejected"))
        if chosen.messages[:-1] != rejected.messages[:-1]:
            raise UsageError(f"{raw.where}: chosen and rejected answer different prompts")
        chosen = chosen.model_copy(update={"id": ids.own(chosen.id)})
        yield Left(chosen.id, "heldout") if pair.get("split") == "heldout" else paired(chosen, rejected.answer)


def _object(raw: Raw) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(raw.line.strip().removeprefix(BOM))
    return found


def _whole(pair: dict[str, Any], column: str, where: str) -> Record:
    """One side as a conversation that ends with its answer."""
    said, asked = pair.get(column), pair.get("prompt")
    if said is None or said == []:
        raise UsageError(
            f"{where}: has no `{column}`: a line of a file of pairs holds `prompt`, `chosen` and `rejected`"
        )
    own = {"id": pair.get("id")}
    if asked is not None:
        record = to_record(own | {"prompt": asked, "completion": said}, where)
        half = to_record(own | {"messages": said}, where) if isinstance(said, list) else None
        before = record.messages[: -len(said)] if half is not None else []
        if half is not None and len(said) > 1 and half.messages[:-1][-len(before) :] == before:
            record = half  # the prompt stands in the column once more
    elif isinstance(said, list):
        record = to_record(own | {"messages": said}, where)
    else:
        raise UsageError(f"{where}: has no `prompt`, and `{column}` is no list of turns that holds one")
    if len(record.messages) < 2 or record.messages[-1].role != "assistant":
        raise UsageError(f"{where}: `{column}` does not end with an answer to a prompt")
    return record
