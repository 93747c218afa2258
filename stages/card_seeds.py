"""What rows grew from, and what the cards beside those files say of it: licence, source, count."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.component import identify
from pipeline.store import Version
from stages.plan import Plan

CARDS = ("README.md", "CARD.md", "CARD.txt", "README.txt")
SAYS = re.compile(r"^(licen[cs]e|source|language|count):[ \t]*(\S.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
READ = 4000  # characters of a card in which it says its licence
OWN = "the plan's own words"


class SeedCard(NamedTuple):
    """One origin of rows. `own`: it stands in the plan itself, so that nobody else has a right to it."""

    name: str
    licence: str = ""
    source: str = ""
    rows: str = ""
    own: bool = False
    note: str = ""


def seeds_of(plan: Plan, chain: Mapping[str, Version]) -> list[SeedCard]:
    """Everything that the versions of a chain were fed: seeds, files of rows, earlier runs."""
    found = []
    for stage, version in chain.items():
        if stage == "generate":
            found.append(_seeds(plan, version))
        found += [card_of(Path(read.version)) for read in version.manifest.inputs if read.stage == "file"]
    curated = chain["curate"].manifest.settings.get("curate", {}) if "curate" in chain else {}
    note = "rows of an earlier run (curate.replay): see that run's own card"
    named = [replay.source for replay in plan.curate.replay] if plan.curate else []
    for nth, _ in enumerate(curated.get("replay", [])):
        name = Path(named[nth]).name if nth < len(named) else f"replay {nth + 1}"
        found.append(SeedCard(name, note=note))
    return found


def _seeds(plan: Plan, version: Version) -> SeedCard:
    made_from = version.manifest.settings.get("generate", {}).get("source", {})
    source = plan.generate.source if plan.generate else None
    if source is None or identify(source) != made_from:
        note = "the plan names other seeds by now than those this version was made from"
        return SeedCard(f"seeds of {version.name}", own=made_from.get("kind") == "grid", note=note)
    path = getattr(source, "path", None)
    return card_of(path) if path is not None else SeedCard(OWN, own=True)


def card_of(path: Path) -> SeedCard:
    """What the card beside a file (or a folder, or the files of a pattern) says; nothing where there is none."""
    folder = path if path.is_dir() else path.parent
    while not folder.is_dir():  # a pattern may begin further up
        folder = folder.parent
    name = f"{folder.name}/{path.name}" if folder != path else path.name
    for card in (folder / file for file in CARDS):
        if card.is_file():
            text = card.read_text(encoding="utf-8", errors="replace")[:READ]
            says = {key.lower().replace("license", "licence"): value for key, value in reversed(SAYS.findall(text))}
            if "licence" in says:
                return SeedCard(name, says["licence"], says.get("source", ""), says.get("count", ""))
    return SeedCard(name, note=f"no card beside it says a licence: a {CARDS[1]} with a line `licence: ...` does")
