"""What lies beside the rows of a version, row by row: log-probabilities, vectors, pairs, and what was trained on."""

from array import array
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import orjson

from pipeline.store import Version
from stages.pairs import FILES
from stages.verify_found import Findings, Ids, named
from stages.verify_rows import Content

BATCH = 10_000  # ids looked up at once


def beside(version: Version, content: Content, out: Findings) -> None:
    """Files that name rows name rows that are there. Damaged ones are told already and left alone."""
    checks: dict[str, Callable[[Version, Content, Findings, Path], None]] = {
        "logprobs-": _logprobs, "embeddings.jsonl": _embeddings, FILES["train"]: _pairs, FILES["heldout"]: _pairs,
    }  # fmt: skip
    for name in sorted(content.whole):
        for start, check in checks.items():
            if name.startswith(start):
                try:
                    check(version, content, out, version.path / name)
                except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
                    out.of(version, name, f"cannot be read: {type(error).__name__}: {error}")


def _logprobs(version: Version, content: Content, out: Findings, file: Path) -> None:
    """Every row's id is one of the version's, and the offsets fit the tensors."""
    with file.open("rb") as opened:
        header = orjson.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        start = opened.tell()
        tensor = header["offsets"]
        first, last = tensor["data_offsets"]
        opened.seek(start + first)
        offsets = array("q", opened.read(last - first))
    ids = orjson.loads(header["__metadata__"]["ids"])
    tokens = header["tokens"]["shape"][0]
    if len(offsets) != len(ids) + 1 or offsets[0] != 0 or offsets[-1] != tokens or list(offsets) != sorted(offsets):
        out.of(version, file.name, f"its offsets do not fit {len(ids):,} rows of {tokens:,} tokens")
    ahead = bool((version.manifest.settings.get("generate") or {}).get("count"))  # rows beyond the last one taken
    if content.readable and not ahead:
        _strangers(version, content.all, out, file, iter(ids))


def _embeddings(version: Version, content: Content, out: Findings, file: Path) -> None:
    """A line and a vector for every row."""
    import numpy as np

    ids = (row["id"] for row in _rows(file))
    if content.readable:
        _strangers(version, content.all, out, file, ids)
    lines = sum(1 for _ in _rows(file))
    vectors = file.with_name("embeddings.npy")
    if vectors.name in content.whole and (n := len(np.load(vectors, mmap_mode="r", allow_pickle=False))) != lines:
        out.of(version, vectors.name, f"has {n:,} vectors, and {file.name} {lines:,} lines")
    if content.readable and lines != len(content.all):
        out.of(version, file.name, f"has {lines:,} lines, and there are {len(content.all):,} rows")


def _pairs(version: Version, content: Content, out: Findings, file: Path) -> None:
    """Chosen answers were kept; no pair for training holds a held-out row, nor the other way round."""
    lines, wrong = 0, []
    heldout = file.name == FILES["heldout"]
    for batch in _batches(_rows(file)):
        sides = [[row[name] for row in batch] for name in ("chosen_id", "rejected_id")]
        kept, there = content.passed.known(sides[0]), content.all.known(sides[1])
        held = [content.heldout.known(side) for side in sides]
        for n, row in enumerate(batch):
            lines += 1
            mixed = any(side[n] != heldout for side in held)
            if not kept[n] or not there[n] or mixed:
                wrong.append(row["id"])
    if wrong and content.readable:
        out.of(version, file.name, f"{len(wrong):,} pairs are of rows that are not here or of the other split: "
                                   f"{named(wrong)}")  # fmt: skip
    told = version.manifest.figures.get("pairs", {}).get("heldout" if heldout else "pairs")
    if told != lines:
        out.of(version, "manifest.json", f"counts {told} pairs in {file.name}, and there are {lines:,}")


def trained(version: Version, content: Content, related: dict[str, Content], out: Findings) -> None:
    """No held-out row of `related` versions is a training row, and the ledger counts what was trained on."""
    name = "rows.jsonl"
    if version.manifest.stage != "train" or name not in content.whole:
        return
    file, records = version.path / name, 0
    try:
        records = sum(1 for _ in groupby(row["id"] for row in _rows(file)))
        for where, other in related.items():
            caught: list[str] = []
            for batch in _batches(row["id"] for row in _rows(file)):
                caught += [id_ for id_, found in zip(batch, other.heldout.known(batch), strict=True) if found]
            if caught:
                what = f"trains on {len(caught):,} rows that are held out in {where}: {named(caught)}"
                out.of(version, name, what)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        out.of(version, name, f"cannot be read: {type(error).__name__}: {error}")
        return
    tally = next((t for t in version.manifest.ledger if t.step == "train"), None)
    told = tally.kept + tally.dropped.get("answer_cut_off", 0) if tally else 0
    if told != records:
        out.of(version, "manifest.json", f"by the ledger {told:,} records give training rows, and {records:,} do")


def _strangers(version: Version, known: Ids, out: Findings, file: Path, ids: Iterator[str]) -> None:
    wrong: list[str] = []
    for batch in _batches(ids):
        wrong += [id_ for id_, found in zip(batch, known.known(batch), strict=True) if not found]
    if wrong:
        out.of(version, file.name, f"{len(wrong):,} ids are of no row: {named(wrong)}")


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as opened:
        yield from map(orjson.loads, opened)


def _batches(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(items, BATCH)):
        yield batch
