"""Why rows were dropped, each reason with rows to look at."""

from collections import Counter
from typing import NamedTuple

from pipeline.records import Record
from pipeline.store import Version
from stages.report.base import Section, Source

TITLE = "What was dropped, and why"
REASONS = 30  # of a stage that are shown
SAMPLES = 3  # rows of each


class Reason(NamedTuple):
    """Rows that one rule dropped for one reason; some of them."""

    stage: str
    by: str
    reason: str
    rows: int
    samples: list[Record]


def section(source: Source) -> Section:
    """The commonest reasons of every stage, with the first rows of each."""
    versions = [version for version in source.versions() if version.rows("dropped")]
    reasons = [reason for version in versions for reason in _reasons(version)]
    return Section("drops", TITLE, {"reasons": reasons}, "" if reasons else "Nothing was dropped.")


def _reasons(version: Version) -> list[Reason]:
    counts: Counter[tuple[str, str]] = Counter()
    samples: dict[tuple[str, str], list[Record]] = {}
    for record in version.read("dropped"):
        key = (record.by, record.reason)
        counts[key] += 1
        if len(kept := samples.setdefault(key, [])) < SAMPLES:
            kept.append(record)
    return [Reason(version.manifest.stage, *key, n, samples[key]) for key, n in counts.most_common(REASONS)]
