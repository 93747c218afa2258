"""why: everything a run knows of one record, from its seed to the rows a student was trained on.

The versions tell what became of it; the plan's source gives its seed again, and the memo what models were asked.
"""

from collections.abc import Iterator
from typing import Any

from pipeline.errors import UsageError
from pipeline.records import Check, Record
from pipeline.run import Run
from pipeline.store import Version
from stages import flow
from stages.lineage import Located, beside, chain, locate, pick, rows_of
from stages.measured import Measured, measured
from stages.pairs import FILES
from stages.plan import STAGES, Plan
from stages.whence import Asked, Grown, Told, whence

SHOWN = 2000  # characters of a neighbour
FATES = {"kept": "kept", "heldout": "held out", "dropped": "dropped"}
HELD_OUT = "held out: it never enters training"


class Neighbour(Told):
    """Another record it was compared with. `how`: `nearest` (of the chosen, itself left out) or `duplicate_of`."""

    id: str
    how: str
    cosine: float
    text: str


class At(Told):
    """The record in one stage. `fate`: kept, held out, dropped, trained on, evaluated, or "" where it is not there.

    `rows` are training rows, preference pairs, or what models answered to its prompt; `note` says why it is not there,
    or what is wrong with the version.
    """

    stage: str
    version: str
    fate: str
    note: str = ""
    by: str = ""
    reason: str = ""
    detail: str = ""
    checks: list[Measured] = []
    neighbours: list[Neighbour] = []
    rows: list[dict[str, Any]] = []


class Story(Told):
    """All of it; `record` is the record as the stage left it that dropped it, or the last that has it."""

    id: str
    fate: str
    seeds: list[Grown]
    asked: list[Asked]
    record: dict[str, Any]
    stages: list[At]
    notes: list[str]


def why(plan: Plan, run: Run, wanted: str, input: str = "") -> Story:
    """The story of the record whose id is or begins with `wanted`: through the current versions, or those of `input`.

    Raises UsageError for an id that is not there or begins several.
    """
    versions = chain(run, pick(run, input) if input else None)
    if not versions:
        raise UsageError(f"{run.path} has no version yet", hint="pipeline run PLAN")
    found = locate(versions, wanted)
    hits = list(found.hits.values())
    record = next((hit for hit in hits if hit.shard == "dropped"), hits[-1]).record
    origin = whence(plan, run, record, versions)
    states = {step.stage: step for step in flow.status(plan, run)}
    stages: list[At] = []
    for stage in STAGES:
        if stage in versions:
            at = _at(plan, run, versions, stage, found)
            note = "; ".join(filter(None, [at.note, _state(states.get(stage), at, versions)]))
            stages.append(at.model_copy(update={"note": note}))
        elif stage in states:
            stages.append(
                At(stage=stage, version="", fate="", note="nothing was made of it" if input else "not run yet")
            )
    told = record.model_dump() | {"meta": record.meta}
    return Story(id=found.id, fate=_fate(stages), seeds=origin.seeds, asked=origin.asked, record=told, stages=stages,
                 notes=origin.notes)  # fmt: skip


def _state(step: flow.Step | None, at: At, versions: dict[str, Version]) -> str:
    """What is wrong with a version the record is in: made from another version, or not what the plan asks for."""
    strayed = _strayed(versions, versions[at.stage])
    if strayed:
        return strayed if at.fate else ""
    if step is None or step.version is None or step.version.name != at.version or step.state == "done":
        return ""
    return f"{step.state}: {step.why}"


def _fate(stages: list[At]) -> str:
    """How the story ends, in a line."""
    trained = next((f"trained on in {at.stage} {at.version}" for at in stages if at.fate == "trained on"), "")
    if dropped := next((at for at in stages if at.fate == "dropped"), None):
        told = f"dropped in {dropped.stage} by {dropped.by}: {dropped.reason}"
        return f"{told}; but {trained}, which was made before that" if trained else told
    last = next(at for at in reversed(stages) if at.fate in FATES.values())
    if last.fate == "held out":
        return "held out: it passed, and serves to evaluate"
    return trained or f"kept in {last.stage}"


def _at(plan: Plan, run: Run, versions: dict[str, Version], stage: str, found: Located) -> At:
    """The record in one version."""
    version, hit = versions[stage], found.hits.get(stage)
    if hit is None:
        rows = list(_rows(version, found.id))
        fate = {"train": "trained on", "evaluate": "evaluated"}.get(stage, "") if rows else ""
        note = "" if fate else _absent(versions, stage, found)
        return At(stage=stage, version=version.name, fate=fate, note=note, rows=rows)
    record, before = hit.record, _before(found, stage)
    checks = measured(plan, run, version, record, before)
    end = {"by": record.by, "reason": record.reason, "detail": record.detail} if hit.shard == "dropped" else {}
    changed = before is not None and (before.messages, before.reasoning) != (record.messages, record.reasoning)
    return At(
        stage=stage, version=version.name, fate=FATES[hit.shard], note="its text was changed here" if changed else "",
        checks=checks, neighbours=list(_neighbours(version, record)), rows=list(_rows(version, found.id)), **end,
    )  # fmt: skip


def _before(found: Located, stage: str) -> Record | None:
    """The record as the stage before left it."""
    earlier = [hit.record for name, hit in found.hits.items() if STAGES.index(name) < STAGES.index(stage)]
    return earlier[-1] if earlier else None


def _absent(versions: dict[str, Version], stage: str, found: Located) -> str:
    """Why a version does not have the record."""
    version = versions[stage]
    if not version.manifest.inputs:
        return "it was not made by this version"
    if strayed := _strayed(versions, version):
        return strayed
    given = version.manifest.inputs[0]
    if given.stage == "file":
        return f"this version was made from the file {given.version}"
    if any(hit.shard == "dropped" for hit in found.hits.values()):
        return "dropped before"
    held_out = any(hit.shard == "heldout" for hit in found.hits.values())
    if held_out and stage != "evaluate":
        return HELD_OUT
    if given.stage not in found.hits:
        return f"{given.stage} did not give it on"
    if stage == "evaluate":
        return "not among the rows whose answers are shown" if held_out else "it is for training"
    if stage != "train":
        return "made with --limit"
    reasons = {reason: rows for tally in version.manifest.ledger for reason, rows in tally.dropped.items()}
    left = ", ".join(f"{rows} {reason}" for reason, rows in reasons.items())
    return "no training row has its id" + (f" (left out: {left})" if left else "")


def _strayed(versions: dict[str, Version], version: Version) -> str:
    """What a version was made from, where that is none of these versions; "" where it is."""
    for given in version.manifest.inputs:
        above = versions.get(given.stage)
        if given.stage != "file" and (above is None or above.manifest.fingerprint != given.fingerprint):
            return f"stale: it read {given.stage} {given.version}" + (f", not {above.name}" if above else "")
    return ""


def _neighbours(version: Version, record: Record) -> Iterator[Neighbour]:
    """The nearest chosen record, and the one it is a duplicate of, with their texts."""
    if version.manifest.stage != "curate":
        return
    near = [(c, *_named(c)) for c in record.checks if c.name == "nearest" or c.reason == "duplicate_of"]
    rows = rows_of(version, [name for _, name, _ in near])
    for check, name, how in near:
        text = (rows[name].answer or rows[name].prompt)[:SHOWN] if name in rows else ""
        yield Neighbour(id=name, how=how, cosine=check.value, text=text)


def _named(check: Check) -> tuple[str, str]:
    if check.name == "nearest":
        return check.detail, "nearest"
    return check.detail.rpartition(", cosine ")[0], "duplicate_of"


def _rows(version: Version, wanted: str) -> Iterator[dict[str, Any]]:
    """What a version holds of the record besides its shards."""
    match version.manifest.stage:
        case "train":
            yield from beside(version, "rows.jsonl", "id", wanted)
        case "evaluate":
            every = list(beside(version, "outputs.jsonl", "id", wanted))
            yield from every or beside(version, "samples.jsonl", "id", wanted)
        case "filter":
            for file in FILES.values():
                for role in ("chosen_id", "rejected_id"):
                    yield from beside(version, file, role, wanted)
