"""Where a record came from: its seed as the source gives it, and what the teacher was asked and said."""

from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from pipeline.component import file_digest
from pipeline.errors import PipelineError
from pipeline.records import Record, Seed
from pipeline.run import Run
from pipeline.store import Input, Version
from stages import recall
from stages.intake import FileRows, Ids, Raw, record_of
from stages.plan import Plan


class Told(BaseModel):
    """Base of what is told of a record; written as JSON as it is."""

    model_config = ConfigDict(frozen=True)


class Grown(Told):
    """What the record grew from: where that was read, and its fields."""

    id: str
    where: str
    fields: dict[str, Any]


class Asked(Told):
    """One question of the script that gave the record; `gave`: the record was read from this answer."""

    model: str
    messages: list[dict[str, str]]
    said: str
    reasoning: str
    remembered: bool
    gave: bool


class Whence(Told):
    """Seeds, questions, and what could not be found."""

    seeds: list[Grown]
    asked: list[Asked]
    notes: list[str]


def whence(plan: Plan, run: Run, record: Record, versions: dict[str, Version]) -> Whence:
    """The record's seeds and questions. A stage that was run on a file is followed to the line in it."""
    files = [given for v in versions.values() for given in v.manifest.inputs if given.stage == "file"]
    for given in files:
        row, problem = _line(given, record.id)
        if row or record.task == "given":
            return Whence(seeds=[row] if row else [], asked=[], notes=[problem] if problem else [])
    seeds, problem = _seeds(plan, record)
    grown = [Grown(id=s.id, where=s.where, fields=dict(s.fields)) for s in seeds]
    if problem or not record.made_by.engine or record.made_by.engine == "stored":
        return Whence(seeds=grown, asked=[], notes=[problem] if problem else [])
    asked = recall.teacher(plan, run, record, seeds[0])
    told = [
        Asked(
            model=one.model, messages=[m.model_dump() for m in one.request.messages],
            said=one.completion.text if one.completion else "",
            reasoning=one.completion.reasoning if one.completion else "",
            remembered=one.completion is not None, gave=n == asked.gave,
        )
        for n, one in enumerate(asked.exchanges)
    ]  # fmt: skip
    return Whence(seeds=grown, asked=told, notes=[asked.problem] if asked.problem else [])


def _seeds(plan: Plan, record: Record) -> tuple[list[Seed], str]:
    """The record's seeds, and what is wrong where they are not found."""
    found: list[Seed] = []
    gone = f"the plan's source gives no seed {' or '.join(record.seeds)} any more: the record grew from another plan's"
    if plan.generate is None:
        return found, "the plan has no section `generate`: where the record came from is not known"
    try:
        for seed in plan.generate.source.seeds(plan.seed, plan.generate.heldout):
            if seed.id in record.seeds:
                found.append(seed)
                if len(found) == len(set(record.seeds)):
                    break
    except (PipelineError, OSError) as error:
        return found, f"the plan's seeds cannot be read: {str(error).splitlines()[0]}"
    return found, "" if found else gone


def _line(given: Input, wanted: str) -> tuple[Grown | None, str]:
    """The line of a foreign file that became the record, and what is to be said of the file."""
    file, ids = Path(given.version), Ids()
    if not file.is_file():
        return None, f"{file}, which the record was read from, is not there any more"
    changed = file_digest(file) != given.fingerprint
    problem = f"{file} has changed since the record was read from it" if changed else ""
    for raw in FileRows(file, quarantine=True).raw():
        record = record_of(raw)
        if ids.own(record.id) == wanted:
            return Grown(id=wanted, where=raw.where, fields=_fields(raw, record)), problem
    return None, problem


def _fields(raw: Raw, record: Record) -> dict[str, Any]:
    """The line's own keys; of a line that is no row what its record shows."""
    if record.dropped:
        return {"line": record.prompt or record.answer}
    return dict(orjson.loads(raw.line.strip().removeprefix(b"\xef\xbb\xbf")))
