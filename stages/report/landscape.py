"""The map of what was chosen: every record a point that tells, when pointed at, what it says."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from pipeline.store import Version
from pipeline.visible import line
from stages.report.base import Section, Source, not_run

TITLE = "The map"
ROWS = "embeddings.jsonl"
DRAWN = 10_000  # points at most
TEXT_BYTES = 2_400_000  # of what they say, all together
LONGEST = 120  # characters of one
FATES = ("not_chosen", "chosen", "duplicate")
SIZE = 10_000  # places along an axis


def section(source: Source) -> Section:
    """Points with their texts as data for the page's own script, and the topics as a table."""
    version = source.version("curate")
    if version is None:
        return not_run("landscape", TITLE, source, "curate")
    if not (version.path / ROWS).is_file():
        return Section("landscape", TITLE, missing=f"curate {version.name} stored no places of its records.")
    topics = version.manifest.figures.get("topics", [])
    points, whole = _points(version)
    data: dict[str, Any] = {
        "topics": topics,
        "points": points | {"names": [str(topic["name"]) for topic in topics]},
        "drawn": len(points["x"]),
        "whole": whole,
    }
    return Section("landscape", TITLE, data, "" if points["x"] else "No record has a vector.")


def _points(version: Version) -> tuple[dict[str, list[Any]], int]:
    """What is drawn, column by column, and how many rows there are; half of the room at least is for the chosen."""
    counts = Counter(row["fate"] for row in _rows(version))
    chosen, others = counts["chosen"], counts.total() - counts["chosen"]
    room = min(chosen, max(DRAWN // 2, DRAWN - others))
    rows = [*_some(version, False, others, DRAWN - room), *_some(version, True, chosen, room)]  # the last lie on top
    texts = _texts(version, {row["id"] for row in rows})
    scale = _scale(rows)
    found: dict[str, list[Any]] = {
        "x": [scale(row["x"], 0) for row in rows],
        "y": [scale(row["y"], 1) for row in rows],
        "topic": [row["topic"] for row in rows],
        "fate": [FATES.index(row["fate"]) for row in rows],
        "id": [row["id"] for row in rows],
        "text": [texts.get(row["id"], "") for row in rows],
    }
    return found, counts.total()


def _rows(version: Version) -> Iterator[dict[str, Any]]:
    with (version.path / ROWS).open("rb") as file:
        yield from (row for row in map(orjson.loads, file) if row["fate"] in FATES)


def _some(version: Version, chosen: bool, count: int, most: int) -> Iterator[dict[str, Any]]:
    """As many of the chosen rows, or of the others, evenly: they come by id, which is a digest."""
    mine = (row for row in _rows(version) if (row["fate"] == "chosen") == chosen)
    for n, row in enumerate(mine):
        if count <= most or (n + 1) * most // count > n * most // count:
            yield row


def _scale(rows: list[dict[str, Any]]) -> Callable[[float, int], int]:
    """Places as whole numbers, in proportion on both axes."""
    lows = [min((row[axis] for row in rows), default=0.0) for axis in "xy"]
    highs = [max((row[axis] for row in rows), default=0.0) for axis in "xy"]
    span = max(high - low for low, high in zip(lows, highs, strict=True)) or 1.0
    return lambda value, axis: round(SIZE * (value - lows[axis]) / span)


def _texts(version: Version, wanted: set[str]) -> dict[str, str]:
    """The beginning of each record's answer, as long as there is room for."""
    room = TEXT_BYTES // max(1, len(wanted))
    found = {}
    for shard in ("kept", "dropped"):
        for record in version.read(shard):
            if record.id in wanted:
                text = line(record.answer or record.prompt, LONGEST)
                if len(text.encode()) > room:
                    text = re.sub(r"\S*$", "", text.encode()[:room].decode(errors="ignore")).rstrip() + "…"
                found[record.id] = text
    return found
