"""The funnel: from seeds to examples that were trained on."""

from typing import NamedTuple

from pipeline.records import digest
from pipeline.store import SHARDS, Tally, Version
from stages import tables
from stages.report.base import Section, Source

TITLE = "From seeds to trained examples"


class Step(NamedTuple):
    """One line: what came, what went on, and why the others did not. Shares are of the widest line."""

    stage: str
    name: str
    came: int
    kept: int
    why: list[tuple[str, int]]
    kept_share: float
    lost_share: float
    aside: bool = False
    """what does not go on is set aside, not dropped"""


def section(source: Source) -> Section:
    """Every step of every stage."""
    versions = [v for v in source.versions() if v.manifest.ledger]
    if not versions:
        return Section("funnel", TITLE, missing="No stage has been run.")
    most = max(tally.came for version in versions for tally in version.manifest.ledger) or 1
    steps: list[Step] = []
    for version in versions:
        stage = version.manifest.stage
        steps += [_step(stage if n == 0 else "", tally, most) for n, tally in enumerate(version.manifest.ledger)]
        heldout = version.rows("heldout")
        if heldout and stage == _last_with_heldout(versions):
            kept = version.rows("kept")
            why = {"held out for evaluation": heldout}
            tally = Tally(step="set aside", came=kept + heldout, kept=kept, dropped=why)
            steps.append(_step("", tally, most)._replace(aside=True))
    filtered = source.version("filter")
    rate = f"{tables.pass_rate(filtered):.0%}" if filtered else ""
    first = source.version("generate")
    seeds = _seeds(first) if first else 0
    return Section("funnel", TITLE, {"steps": steps, "rate": rate, "seeds": seeds})


def _last_with_heldout(versions: list[Version]) -> str:
    return next((v.manifest.stage for v in reversed(versions) if v.rows("heldout")), "")


def _step(stage: str, tally: Tally, most: int) -> Step:
    why = sorted(tally.dropped.items(), key=lambda item: (-item[1], item[0]))
    kept, lost = (round(100 * rows / most, 2) for rows in (tally.kept, tally.came - tally.kept))
    return Step(stage, tally.step, tally.came, tally.kept, why, kept, lost)


def _seeds(version: Version) -> int:
    """How many different seeds the rows grew from; numbers of eight bytes alone are held."""
    found: set[int] = set()
    for shard in SHARDS:
        for record in version.read(shard):
            found.update(int(digest(seed), 16) for seed in record.seeds)
    return len(found)
