"""Arms of an ablation: for each the plan it follows, the versions its rows come from, and which of them it takes."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Override
from pipeline.errors import PipelineError, UsageError
from pipeline.records import Record, digest
from pipeline.run import Run
from pipeline.store import Shard, Version
from stages import flow
from stages.ablation.section import DATA, Ablate, Data
from stages.base import Inputs
from stages.intake import Raw
from stages.plan import Plan, load
from stages.train import Train

STAGE = {"unfiltered": "generate", "random": "generate", "filtered": "filter", "curated": "curate"}
DRAWN = ("random", "filtered")
WORDS = {
    "unfiltered": "all generated", "random": "all generated", "filtered": "those that passed", "curated": "the chosen",
}  # fmt: skip
BROUGHT = {
    ("filtered", "random"): "filtering", ("curated", "filtered"): "curation",
    ("curated", "random"): "filtering and curation", ("random", "unfiltered"): "fewer rows",
}  # fmt: skip


class Arm(NamedTuple):
    """What students of one sort are trained on."""

    name: str
    plan: Plan
    data: Data
    draws: bool
    """whether every student has rows of its own, drawn of its seed"""
    pass_rate: float | None = None
    score: str = ""
    other_student: bool = False

    @property
    def stage(self) -> str:
        """Whose rows it takes."""
        return "filter" if self.pass_rate is not None else STAGE[self.data]

    @property
    def words(self) -> str:
        """Which rows, for people."""
        rows = WORDS[self.data] if self.pass_rate is None else f"the best {self.pass_rate:.0%} by {self.score}"
        return f"drawn of {rows}" if self.draws else rows

    @property
    def train(self) -> Train:
        """How its students are trained."""
        stage = self.plan.stage("train")
        assert isinstance(stage, Train)
        return stage


class Contrast(NamedTuple):
    """Two arms, and what the first has that the second has not."""

    first: str
    second: str
    brought: str


class Arms(NamedTuple):
    """All of a plan's, the plan's own among them."""

    own: str
    """the arm that is the plan as it stands"""
    all: dict[str, Arm]
    contrasts: list[Contrast]


def arms(path: Path, overrides: tuple[Override, ...], plan: Plan, section: Ablate) -> Arms:
    """The section's arms and what is compared. Raises UsageError for a variant that is no valid plan."""
    plan.stage("train")
    there = [name for name in DATA if STAGE[name] in plan.stages()]
    if not there:
        raise UsageError("ablate trains on rows of generate, filter or curate, and the plan has none of them")
    own = there[-1]
    found: dict[str, Arm] = {
        name: Arm(name, plan, name, _draws(name, own, section)) for name in there if name in section.arms or name == own
    }
    for name, variant in section.variants.items():
        changed = plan
        if variant.set:
            try:
                changed = load(path, (*overrides, *variant.set.items()))
            except UsageError as error:
                raise UsageError(f"ablate.variants.{name}: {error}") from error
        data = variant.data or ("filtered" if variant.pass_rate is not None else own)
        if STAGE[data] not in changed.stages():
            raise UsageError(f"ablate.variants.{name}: {data} rows come from {STAGE[data]}, which the plan has not")
        if variant.pass_rate is not None:
            found[name] = Arm(name, changed, data, True, variant.pass_rate, variant.score)
        else:
            found[name] = Arm(name, changed, data, _draws(data, own, section))
    for name, student in section.cross_architecture.items():
        train = found[own].train.model_copy(update={"student": student})
        found[name] = found[own]._replace(name=name, plan=plan.model_copy(update={"train": train}), other_student=True)
    return Arms(own, found, list(_contrasts(section, own, found)))


def _draws(data: Data, own: Data, section: Ablate) -> bool:
    """Whether such an arm draws: what the plan trains on itself is all of it, unless the section says how many."""
    return data in DRAWN and (data != own or section.rows is not None)


def _contrasts(section: Ablate, own: str, found: dict[str, Arm]) -> Iterator[Contrast]:
    for (first, second), brought in BROUGHT.items():
        if first in found and second in found:
            yield Contrast(first, second, brought)
    for name, variant in section.variants.items():
        against = variant.against or ("random" if variant.pass_rate is not None and "random" in found else own)
        if against not in found:
            raise UsageError(f"ablate.variants.{name}: {against}, which it is compared with, is no arm of this plan")
        yield Contrast(name, against, name)
    for name in section.cross_architecture:
        yield Contrast(name, own, f"the student {name}")


class Aside(Run):
    """A run's folder with pointers of its own: what is made here is a version like any other, and current nowhere."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.path)
        self._main, self._own = run, dict[str, Version]()

    def current(self, stage: str) -> Version | None:
        """What was made aside, else the run's own."""
        return self._own.get(stage) or self._main.current(stage)

    def set_current(self, version: Version) -> None:
        """Point at a version, for this chain alone."""
        self._own[version.manifest.stage] = version


class Sources:
    """The versions that arms take their rows from: made where they are not there, once for all arms alike.

    What the run has generated, or read from a file, is taken as it is, unless an arm generates by other settings;
    whatever follows is made as the arm's plan says.
    """

    def __init__(self, plan: Plan, run: Run) -> None:
        self._plan, self._run = plan, run
        self._made: dict[str, Version] = {}

    def of(self, arm: Arm) -> Version:
        """An arm's. Raises UsageError, PipelineError."""
        aside, names = Aside(self._run), list(arm.plan.stages())
        before: list[Any] = []
        for name in names[: names.index(arm.stage) + 1]:
            before.append([name, arm.plan.settings(name)])
            made = self._made.get(key := digest(before)) or self._make(arm.plan, name, aside)
            self._made[key] = made
            aside.set_current(made)
        return made

    def there(self, arm: Arm) -> Version | None:
        """An arm's, where it needs not be made."""
        aside, plan = Aside(self._run), arm.plan
        names = list(plan.stages())
        for name in names[: names.index(arm.stage) + 1]:
            if not self._given(plan, name, aside):
                read = [version.manifest.fingerprint for version in map(aside.current, plan.upstream(name)) if version]
                ready = self._run.with_fingerprint(name, flow.fingerprint(name, plan.settings(name), read))
                if ready is None:
                    return None
                aside.set_current(ready)
        return aside.current(arm.stage)

    def _make(self, plan: Plan, name: str, aside: Run) -> Version:
        if not self._given(plan, name, aside):
            return flow.run_stages(plan, aside, [name], flow.Options())[0]
        there = aside.current(name)
        assert there is not None, "the study has seen to it"
        return there

    def _given(self, plan: Plan, name: str, run: Run) -> bool:
        """Whether a stage is taken as it is."""
        same = name in self._plan.stages() and plan.settings(name) == self._plan.settings(name)
        return same and (name == "generate" or _from_file(run.current(name)))


def _from_file(version: Version | None) -> bool:
    return version is not None and any(source.stage == "file" for source in version.manifest.inputs)


class Rows:
    """Rows for training that an arm takes of a version: all, or those with the chosen ids."""

    def __init__(self, version: Version, ids: frozenset[str] | None = None) -> None:
        self._version, self._ids = version, ids

    def read(self, shard: Shard) -> Iterator[Record]:
        """In the version's order; a chosen row that was dropped there is read as if it had not been."""
        if self._ids is None or shard != "kept":
            yield from self._version.read(shard)
            return
        for part in ("kept", "dropped"):
            for record in self._version.read(part):
                if record.id in self._ids:
                    yield record.model_copy(update={"by": "", "reason": "", "score": 0.0, "detail": ""})

    def count(self, shard: Shard) -> int | None:
        """How many there are."""
        return len(self._ids) if self._ids is not None and shard == "kept" else self._version.rows(shard)

    def raw(self) -> Iterator[Raw]:
        """Unparsed, as they would be written."""
        return (Raw(record.line()) for record in self.read("kept"))


def take(arm: Arm, version: Version, rows: int, seed: int) -> Inputs:
    """What the students of one seed are trained on: `rows` of the version where the arm draws, else all."""
    if not arm.draws:
        ids = None
    elif arm.pass_rate is None:
        ids = _draw((record.id for record in version.read("kept")), rows, seed)
    else:
        ids = _draw(_best(version, arm.pass_rate, arm.score), rows, seed)
    return Inputs(Rows(version, ids), {version.manifest.stage: version})


def _draw(ids: Iterator[str], rows: int, seed: int) -> frozenset[str]:
    """By a digest of seed and id: a draw of fewer is part of a draw of more."""
    return frozenset(heapq.nsmallest(rows, ids, key=lambda id_: digest([seed, id_])))


def _best(version: Version, share: float, score: str) -> Iterator[str]:
    """Rows for training with the highest scores; those without one come last."""
    scored: list[tuple[float, str]] = []
    total = 0
    for part in ("kept", "dropped"):
        for record in version.read(part):
            if record.split == "train":
                total += 1
                if (value := record.scored(score)) is not None:
                    scored.append((-value, record.id))
    wanted = max(1, round(share * total))
    if wanted > len(scored):
        raise PipelineError(
            f"filter {version.name}: {score} has measured {len(scored):,} of {total:,} rows for training, too few for "
            f"a pass rate of {share:.0%}",
            hint="filter.measure: all has every rule measure every row; or take a lower pass_rate",
        )
    return (id_ for _, id_ in heapq.nsmallest(wanted, scored))
