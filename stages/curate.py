"""curate: embed the records, and take few but good and diverse ones. Held-out records stay behind."""

import math
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from pipeline.engines import Engine
from pipeline.job import Job
from pipeline.records import Record
from pipeline.store import VersionWriter
from stages import choice, pool
from stages.base import Inputs, Rows, Stage
from stages.choice import Chosen, Compared
from stages.embedding import Embed
from stages.landscape import Landscape, Portrait
from stages.order import Order, ordered
from stages.replay import Replay
from stages.selectors import AnySelector
from stages.selectors.base import Selector
from stages.selectors.cluster import Cluster
from stages.spaces import Space
from stages.spool import Lines

VECTORS, FEATURES = "embeddings.npy", "features.npy"

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Curate(Stage):
    """Keep `keep` records: no near-duplicates, diverse by embedding, good by score."""

    stage: ClassVar[str] = "curate"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("filter", "generate"),)

    embed: Embed = Embed()
    dedup: Annotated[
        float | None, Field(gt=0, le=1, description="cosine from which of two records the better one stays; null: off")
    ] = 0.95
    select: AnySelector = Cluster()
    keep: Annotated[Count | Share, Field(description="how many records, or which share of them")]
    score: Annotated[
        str | list[str],
        Field(description="the check whose value ranks records, `-NAME` where less is better; of several the product"),
    ] = "judge"
    order: Annotated[
        Order, Field(description="shuffled, as they were chosen, topic by topic, or by the value of `order_by`")
    ] = "shuffled"
    order_by: Annotated[str, Field(description="a check, for ascending and descending; `score` when left out")] = ""
    replay: Annotated[list[Replay], Field(description="earlier runs, a share of which goes along")] = []

    @model_validator(mode="after")
    def _room(self) -> "Curate":
        if sum(r.share for r in self.replay) >= 1:
            raise ValueError("the shares of `replay` leave nothing for new records")
        if self.order_by and self.order not in ("ascending", "descending"):
            raise ValueError("`order_by` means something with `order: ascending` or `descending` only")
        own = self._own_spaces()
        if any(space.meaning() != own[0].meaning() for space in own):
            raise ValueError("`select` and `replay` compare by gradients of different students: give all the same")
        return self

    def models(self, teacher: Engine | None) -> list[tuple[str, str]]:
        """The embedding model, and the selector's."""
        return [w for space in self.spaces() for w in space.weights()]

    def scored(self, record: Record) -> float | None:
        """What ranks a record: the product of its scores; None where one was not measured."""
        names = [self.score] if isinstance(self.score, str) else self.score
        values = [_value(record, name) for name in names]
        return None if None in values else math.prod(v for v in values if v is not None)

    def order_value(self, record: Record) -> float:
        """What the order goes by; NaN where it was not measured."""
        value = _value(record, self.order_by) if self.order_by else self.scored(record)
        return math.nan if value is None else value

    def prepare(self, job: Job, inputs: Inputs) -> None:
        """Find the earlier runs."""
        for replay in self.replay:
            replay.version()

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Read, embed, choose, write; only vectors, ids and figures stay in memory."""
        compared = self.compared(job, inputs, out.path, out.work)
        wanted, budgets = self.budgets(compared)
        chosen = choice.choose(compared, self.selectors(), budgets, job.seed)
        portrait = Landscape(compared, job.seed).portrait(chosen, f"{job.run.path.name}: {self.select.kind}")
        self._write(compared, chosen, portrait, out, job.seed)
        out.manifest.figures |= portrait.figures()
        out.manifest.notes += [*self._notes(compared), *filter(None, [choice.short(chosen, wanted, compared)])]
        portrait.write(out.path)

    def compared(self, job: Job, inputs: Inputs, folder: Path, work: Path) -> Compared:
        """The rows with their vectors; in `folder` the vectors stay, in `work` the selector's own do not."""
        found = pool.read(self, self._sources(inputs))
        vectors, *features = [
            pool.vectors(found, nth, space, job, target)
            for nth, (space, target) in enumerate(zip(self.spaces(), (folder / VECTORS, work / FEATURES), strict=False))
        ]
        return choice.compare(found, vectors, features[0] if features else vectors, self.dedup)

    def selectors(self) -> list[Selector]:
        """The selector of the rows of the stage above, then those of the replays."""
        return [self.select, *(r.select for r in self.replay)]

    def budgets(self, compared: Compared, keep: int | None = None) -> tuple[int, list[int]]:
        """How many to keep in all (`keep`, or what the plan says), and of each source."""
        new = int((compared.pool.sources == 0).sum())
        total = keep or (self.keep if isinstance(self.keep, int) else max(1, round(self.keep * new)))
        parts = [round(r.share * total) for r in self.replay]
        return total, [total - sum(parts), *parts]

    def spaces(self) -> list[Space]:
        """What records are compared by: what is embedded, then what the selectors use instead, if they do."""
        return [self.embed, *self._own_spaces()[:1]]

    def _own_spaces(self) -> list[Space]:
        return [space for s in self.selectors() if (space := s.space()) is not None]

    def _sources(self, inputs: Inputs) -> list[Rows]:
        return [inputs.rows, *(r.rows() for r in self.replay)]

    def _notes(self, compared: Compared) -> list[str]:
        lost = compared.pool.unscored
        names = self.score if isinstance(self.score, str) else " and ".join(self.score)
        return [f"{lost:,} rows were not measured by {names}: they count as 0"] if lost else []

    def _write(self, compared: Compared, chosen: Chosen, portrait: Portrait, out: VersionWriter, seed: int) -> None:
        """Dropped rows as they come, kept ones in their order, and every row's tale in the ledger."""
        lines = Lines()
        for _, record in compared.pool.read.rows():
            place = compared.pool.place[record.id]
            for check in [*portrait.topic(place), *choice.fate(compared, chosen, place, self.selectors())]:
                record = record.checked(check)
            if record.dropped:
                out.write(record)
            else:
                lines.put(place, record.line())
        places = chosen.places
        ids, values = [compared.pool.ids[i] for i in places], compared.pool.order_values[places].tolist()
        for n in ordered(self.order, ids, chosen.ranks(places), portrait.topics(places), values, seed):
            out.write_line(lines.get(places[n]), "kept")
        out.manifest.ledger += choice.ledger(compared, chosen, self.selectors())


def _value(record: Record, name: str) -> float | None:
    value = record.scored(name.removeprefix("-"))
    return -value if value is not None and name.startswith("-") else value
