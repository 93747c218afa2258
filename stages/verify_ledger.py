"""A version's manifest against itself, against its rows, and against the versions it was made from."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.component import file_digest
from pipeline.store import Input, Manifest, Tally, Version
from stages.flow import fingerprint
from stages.verify_found import Findings, short
from stages.verify_rows import Content

FIRST = ("embed", "dedup")  # steps of curate before the selectors, which share what is left
REPLAYED = re.compile(r"^replay \d+: ")
EDITED = "the manifest was edited"


def named(version: Version, out: Findings) -> None:
    """Folder, stage, name and fingerprint say the same, and the fingerprint follows from settings and inputs."""
    manifest, folder = version.manifest, version.path
    if (manifest.stage, manifest.version) != (folder.parent.name, folder.name):
        out.of(version, "manifest.json", f"calls itself {manifest.stage}/{manifest.version}")
    if not folder.name.endswith(f"-{manifest.fingerprint[:8]}"):
        out.of(version, "manifest.json", f"has the fingerprint {manifest.fingerprint[:8]}..., another than its folder")
    prints = [source.fingerprint for source in manifest.inputs]
    if fingerprint(manifest.stage, manifest.settings, prints, manifest.limit) != manifest.fingerprint:
        what = f"its fingerprint does not follow from its settings and inputs: {EDITED}"
        out.of(version, "manifest.json", what)


def counted(version: Version, content: Content, out: Findings) -> None:
    """The counts and the ledger add up, and are those of the rows."""
    manifest = version.manifest
    for tally in manifest.ledger:
        if tally.came != tally.kept + sum(tally.dropped.values()):
            lost = f"{tally.came:,} came, {tally.kept:,} kept and {sum(tally.dropped.values()):,} dropped"
            out.of(version, "manifest.json", f"the ledger of {tally.step} does not add up: {lost}")
    if not content.readable:  # the rows cannot be counted, and that is told
        return
    for shard in ("kept", "heldout", "dropped"):
        if manifest.counts.get(shard, 0) != content.rows[shard]:
            says = f"counts {manifest.counts.get(shard, 0):,} {shard} rows, and there are {content.rows[shard]:,}"
            out.of(version, "manifest.json", says)
    if content.rows.total() or any(tally.step != "train" for tally in manifest.ledger):
        _against_rows(version, content, out)


def _against_rows(version: Version, content: Content, out: Findings) -> None:
    groups = list(_groups(version.manifest))
    if not groups:
        out.of(version, "manifest.json", f"has rows and no ledger: {EDITED}")
        return
    for before, after in itertools.pairwise(groups):
        if after.came != before.kept:
            gap = f"{before.step} kept {before.kept:,} rows, and {after.came:,} came to {after.step}"
            out.of(version, "manifest.json", f"the ledger has a gap: {gap}")
    told: Counter[tuple[str, str]] = Counter()
    for tally in version.manifest.ledger:
        told.update({(REPLAYED.sub("", tally.step), reason): n for reason, n in tally.dropped.items()})
    ahead = _reads_ahead(version.manifest)
    sums = [
        ("came", groups[0].came, content.rows.total()),
        ("were kept by all steps", groups[-1].kept, content.rows["kept"] + content.rows["heldout"]),
    ]
    for by, reason in sorted(told.keys() | content.dropped.keys()):
        sums.append((f"were dropped by {by} for {reason}", told[by, reason], content.dropped[by, reason]))
    for what, says, are in sums:
        if says < are or (says > are and not ahead):
            out.of(version, "manifest.json", f"by the ledger {says:,} rows {what}, and there are {are:,}")


def _groups(manifest: Manifest) -> Iterator[Tally]:
    """The steps one after the other; those of curate that share the rows (a selector for each source) as one."""
    shared: list[Tally] = []
    for tally in manifest.ledger:
        if manifest.stage == "curate" and tally.step not in FIRST:
            shared.append(tally)
        else:
            yield tally
    if shared:
        whole = Tally(step="the selectors")
        for tally in shared:
            whole.add(tally)
        yield whole


def _reads_ahead(manifest: Manifest) -> bool:
    """With `generate.count` rules may have judged rows beyond the last that was taken."""
    return manifest.stage == "generate" and bool((manifest.settings.get("generate") or {}).get("count"))


def made_from(version: Version, source: Input, giver: Version | None, out: Findings) -> None:
    """What a version was made from is there, as it was."""
    if source.stage == "file":
        file = Path(source.version)
        if not file.is_file() or file_digest(file) != source.fingerprint:
            out.note(short(version), f"was made from the file {file}, which is not here as it was")
    elif giver is None:
        todo = f"put that version back, or run {version.manifest.stage} again"
        out.problem(short(version), f"was made from {source.stage}/{source.version}, which is not here whole", todo)
    elif giver.name != source.version:
        out.note(short(version), f"was made from {source.stage}/{source.version}; here is {giver.name}, made alike")


def taken_over(version: Version, content: Content, giver: Version, given: Content, out: Findings) -> None:
    """All rows that the stage above passed on have come, and no others."""
    manifest = version.manifest
    if manifest.stage not in ("filter", "curate") or not (content.readable and given.readable):
        return
    if manifest.stage == "curate" and (manifest.settings.get("curate") or {}).get("replay"):
        return  # rows of other runs came, too
    if strangers := content.all.outside(given.passed):
        out.of(version, "*.jsonl", f"{strangers:,} rows are not among those that {short(giver)} passed on")
    passed = given.rows["kept"] + (given.rows["heldout"] if manifest.stage == "filter" else 0)
    came = manifest.ledger[0].came if manifest.ledger else 0
    if came < passed and manifest.limit is None:
        out.of(version, "manifest.json", f"{came:,} rows came, and {short(giver)} passed {passed:,} on")
