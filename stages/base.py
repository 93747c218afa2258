"""What a stage is: settings from the plan, rows it reads, one version it writes."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

from pipeline.component import Component
from pipeline.engines import Engine
from pipeline.job import Job, Retry
from pipeline.records import Record
from pipeline.store import Shard, Version, VersionWriter
from stages.intake import Raw


class Rows(Protocol):
    """Rows a stage reads, as often as it likes: a version of another stage, or a file."""

    def read(self, shard: Shard) -> Iterator[Record]:
        """Rows of one sort, in order."""
        ...

    def count(self, shard: Shard) -> int | None:
        """How many there will be, where that is known."""
        ...

    def raw(self) -> Iterator[Raw]:
        """Every row a filter reads, unparsed."""
        ...


class Inputs:
    """What a stage reads, by the stage that made it; `rows` is the main one."""

    def __init__(self, rows: Rows | None, versions: dict[str, Version]) -> None:
        self._rows, self.versions = rows, versions
        self.total: int | None = None  # how many there will be, once a stage has counted them

    @property
    def rows(self) -> Rows:
        """Rows of the main input."""
        assert self._rows is not None, "a stage that reads rows is always given some"
        return self._rows


class Stage(Component):
    """Base of the stages."""

    stage: ClassVar[str]
    needs: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """For each input, the stages that may give it: the first that the plan has."""
    takes_rows: ClassVar[bool] = True
    quarantines: ClassVar[bool] = False
    """Whether a broken line of a file is a row to drop, rather than a reason to refuse the file."""

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """Engines this stage asks; their identity counts in its fingerprint."""
        return []

    def models(self, teacher: Engine | None) -> list[tuple[str, str]]:
        """Names and revisions of all models this stage loads."""
        return [w for e in self.asks(teacher) for w in e.weights()]

    def settings(self, seed: int, teacher: Engine | None) -> dict[str, Any]:
        """Everything in the plan that shapes this stage's output."""
        return {"seed": seed, "models": [e.identity() for e in self.asks(teacher)], self.stage: self.identity()}

    def retries_rows(self, made: Version, retry: frozenset[Retry]) -> bool:
        """Whether a finished version holds rows that `--retry` asks for again."""
        return False

    def prepare(self, job: Job, inputs: Inputs) -> None:
        """Refuse what is wrong before anything is written or loaded. Raises UsageError."""

    @abstractmethod
    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Do the work. `out` holds the folder, the ledger and the figures to fill."""
