"""Which files of which versions a data set is published with, and under which names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UsageError
from pipeline.store import Shard, ShardInfo, Version
from stages.card_facts import Facts
from stages.pairs import FILES

DEFAULT, DROPPED, PREFERENCE = "default", "dropped", "preference"


class Want(NamedTuple):
    """What goes along besides the rows for training."""

    heldout: bool = False
    dropped: bool = False
    pairs: bool = False


class Item(NamedTuple):
    """One file: its name in the repository, and where its content lies. `config`, `split`: as `datasets` has them."""

    path: str
    file: Path
    info: ShardInfo
    rows: int
    config: str
    split: str


def items(facts: Facts, want: Want) -> list[Item]:
    """Every data file, in the order of the card. Raises UsageError for what is wanted and not there."""
    found = list(_shards(facts.version, "kept", DEFAULT, "train", "train"))
    if want.heldout:
        found += _shards(facts.heldout(), "heldout", DEFAULT, "heldout", "heldout")
    if want.dropped:
        for stage, version in facts.chain.items():
            found += _shards(version, "dropped", DROPPED, stage, f"dropped-{stage}")
    if want.pairs:
        found += _pairs(facts, heldout=want.heldout)
    return found


def _shards(version: Version, shard: Shard, config: str, split: str, name: str) -> Iterator[Item]:
    for nth, info in enumerate(s for s in version.manifest.shards if s.file.startswith(f"{shard}-")):
        yield Item(f"data/{name}-{nth:05d}.jsonl", version.path / info.file, info, info.rows, config, split)


def _pairs(facts: Facts, *, heldout: bool) -> list[Item]:
    version = facts.chain.get("filter")
    there = {info.file: info for info in version.manifest.files} if version else {}
    if version is None or FILES["train"] not in there:
        raise UsageError("there are no preference pairs to publish", hint="filter.pairs: {} in the plan writes them")
    counts = version.manifest.figures["pairs"]
    sides = [("train", counts["pairs"]), ("heldout", counts["heldout"])] if heldout else [("train", counts["pairs"])]
    found = []
    for split, rows in sides:
        file = FILES["train" if split == "train" else "heldout"]
        if file in there:
            name = f"data/pairs-{split}-00000.jsonl"
            found.append(Item(name, version.path / file, there[file], rows, PREFERENCE, split))
    return found


def configs(found: list[Item]) -> list[dict[str, Any]]:
    """The section `configs` of a card: which files are which split of what."""
    made: dict[str, dict[str, str]] = {}
    for item in found:
        pattern = f"{item.path.rpartition('-')[0]}-*.jsonl"
        made.setdefault(item.config, {}).setdefault(item.split, pattern)
    return [
        {"config_name": config, **({"default": True} if config == DEFAULT and len(made) > 1 else {}),
         "data_files": [{"split": split, "path": pattern} for split, pattern in splits.items()]}
        for config, splits in made.items()
    ]  # fmt: skip
