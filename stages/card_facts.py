"""What a card says, counted: one look at every row that would be published, and what the manifests hold."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from filters import tongues
from pipeline.errors import PipelineError
from pipeline.models import DEMO, looks_local
from pipeline.records import Record
from pipeline.run import Run
from pipeline.store import Version
from stages.card_seeds import SeedCard, seeds_of
from stages.formats.export import ROWS
from stages.licences import Source
from stages.plan import Plan
from stages.tasks.base import Task

SPOKEN = 0.15  # share from which a language counts as one of a row's
RARE = 0.01  # share of the rows under which a language is not named


class Teacher(NamedTuple):
    """Who wrote answers, under the name that may be published."""

    engine: str
    model: str
    revision: str
    licence: str


class Counted(NamedTuple):
    """What the rows hold."""

    rows: int
    teachers: Counter[Teacher]
    languages: Counter[str]
    told: int
    """rows whose language could be told"""
    tasks: Counter[str]
    prompts: Counter[str]
    several_turns: int
    system: int
    reasoning: int
    tokens: int
    paths: int
    """rows that name a model by a path of this machine"""

    def spoken(self) -> list[tuple[str, float]]:
        """Languages with their share of the rows, the commonest first."""
        shares = [(code, n / self.told) for code, n in self.languages.most_common()]
        return [(code, share) for code, share in shares if share >= RARE]


class Facts(NamedTuple):
    """A version of data and all that it came from."""

    plan: Plan
    run: Run
    version: Version
    chain: dict[str, Version]
    """the versions behind it by stage, itself included, from generate on"""
    counted: Counted
    seeds: list[SeedCard]

    def heldout(self) -> Version:
        """The version with the held-out rows: the last that has some."""
        return next((v for v in reversed(self.chain.values()) if v.rows("heldout")), self.version)

    def sources(self) -> list[Source]:
        """All that the rows were made from, with licences; what the plan itself says is nobody else's."""
        brought = any(read.stage == "file" for v in self.chain.values() for read in v.manifest.inputs)
        found = [Source("teacher", t.model, t.licence) for t in self.counted.teachers if t.model]
        if not brought and len(found) < len(self.counted.teachers):
            found.append(Source("rows", "that name no model", ""))
        found += [Source("seeds", card.name, card.licence) for card in self.seeds if not card.own]
        found += [Source("prompt", name, licence) for name, licence in _prompts(self.plan, self.counted.prompts)]
        return list(dict.fromkeys(found))


def gather(plan: Plan, run: Run, version: Version) -> Facts:
    """Read every kept row once. Raises PipelineError where there is none."""
    if not version.rows("kept"):
        raise PipelineError(f"{version.manifest.stage} {version.name} holds no rows that could be published")
    chain = {stage: found for stage in reversed(ROWS) if (found := run.behind(version, stage)) is not None}
    return Facts(plan, run, version, chain, count(version.read("kept")), seeds_of(plan, chain))


def count(records: Iterable[Record]) -> Counted:
    """Count what a card tells of rows."""
    teachers: Counter[Teacher] = Counter()
    languages: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    prompts: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    for record in records:
        made = record.made_by
        teachers[Teacher(made.engine, public(made.model), made.revision, made.licence)] += 1
        told = {code for code, share in tongues.shares(_said(record)).items() if share >= SPOKEN}
        languages.update(told)
        tasks[record.task] += 1
        prompts.update([made.prompt] if made.prompt else [])
        flags["told"] += bool(told)
        flags["several"] += sum(m.role == "user" for m in record.messages) > 1
        flags["system"] += any(m.role == "system" for m in record.messages)
        flags["reasoning"] += bool(record.reasoning)
        flags["tokens"] += made.completion_tokens
        flags["paths"] += public(made.model) != made.model and not made.model.startswith(DEMO)
    return Counted(
        tasks.total(), teachers, languages, flags["told"], tasks, prompts, flags["several"], flags["system"],
        flags["reasoning"], flags["tokens"], flags["paths"],
    )  # fmt: skip


def _said(record: Record) -> str:
    """The conversation without its system turns, the answer first: the beginning is what is read."""
    return "\n".join([record.answer, *(m.content for m in record.messages[:-1] if m.role != "system")])


def public(model: str) -> str:
    """A model's name without the place where it lies here."""
    return Path(model).name if looks_local(model) else model.removeprefix(DEMO)


def hub_id(model: str) -> str:
    """The model's id on the Hub; "" where its name is a path, or a short name of this project."""
    return "" if looks_local(model) or model.startswith(DEMO) or model.count("/") != 1 else model


def _prompts(plan: Plan, seen: Counter[str]) -> list[tuple[str, str]]:
    """The prompt files of the task that rows name, with their licences."""
    from prompts import load

    task: Task | None = plan.generate.task if plan.generate else None
    files = [path for value in vars(task).values() for path in _paths(value)] if task else []
    found = [load(path) for path in files if path.suffix == ".md"]
    return [(prompt.name, prompt.front.licence) for prompt in found if prompt.name in seen]


def _paths(value: Any) -> list[Path]:
    match value:
        case Path():
            return [value]
        case dict():
            return [path for inner in value.values() for path in _paths(inner)]
    return []
