"""curate: embed the records, and take few but good and diverse ones. Held-out records stay behind."""

import os
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline import console
from pipeline.component import Component, Knob
from pipeline.engines import Engine
from pipeline.errors import ModelError, PipelineError
from pipeline.job import Job
from pipeline.models import find
from pipeline.records import Check, Record
from pipeline.store import Tally, VersionWriter
from stages.base import Inputs, Rows, Stage
from stages.selectors import AnySelector
from stages.selectors.base import Candidates
from stages.selectors.cluster import Cluster

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embed(Component):
    """What is embedded, and with which sentence-transformers model."""

    model: str = "demo:all-minilm-l6-v2"
    revision: str = ""
    text: Annotated[Literal["prompt", "answer", "both"], Field(description="what of a record is embedded")] = "answer"
    batch_size: Annotated[int, Knob(), Field(ge=1)] = 32

    def identity(self) -> dict[str, Any]:
        """The model by its content."""
        found = find(self.model, self.revision)
        return super().identity() | {"model": found.name, "revision": found.revision}

    def of(self, record: Record) -> str:
        """The text that is embedded."""
        return {"prompt": record.prompt, "answer": record.answer, "both": f"{record.prompt}\n{record.answer}"}[
            self.text
        ]

    def encode(self, texts: Iterator[str], total: int | None) -> "NDArray[np.float32]":
        """Unit vectors, shape (N, D). Raises ModelError."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import numpy as np

        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ModelError(f"sentence-transformers is not installed ({error})", hint="`pipeline doctor`") from error
        found = find(self.model, self.revision)
        with console.silenced(None):
            try:
                model = SentenceTransformer(
                    found.where,
                    revision=None if found.local else self.revision or None,
                    model_kwargs={"use_safetensors": True},
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise ModelError(f"cannot load the embedding model {self.model}: {error}") from error
        parts = []
        with console.Bar("embed", total) as bar:
            for block in _blocks(texts, 16 * self.batch_size):  # encode sorts a block by length
                vectors = model.encode(
                    block, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
                )
                parts.append(np.asarray(vectors, dtype=np.float32))
                bar.advance(len(block))
        return np.concatenate(parts)


class Curate(Stage):
    """Keep `keep` records: diverse by embedding, good by score."""

    stage: ClassVar[str] = "curate"
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("filter", "generate"),)

    embed: Embed = Embed()
    select: AnySelector = Cluster()
    keep: Annotated[int, Field(ge=1, description="how many records")]
    score: Annotated[str, Field(description="the check whose value ranks records; equal where it was not run")] = (
        "judge"
    )

    def models(self, teacher: Engine | None) -> list[tuple[str, str]]:
        """The embedding model."""
        return [(self.embed.model, self.embed.revision)]

    def run(self, job: Job, inputs: Inputs, out: VersionWriter) -> None:
        """Two passes over the rows: one to embed, one to write; only vectors and scores stay in memory."""
        candidates = self._candidates(inputs.rows)
        choices = self.select.pick(candidates, self.keep, job.seed)
        verdicts = dict(zip(candidates.ids, choices, strict=True))
        tally = Tally(step=self.select.kind)
        for record in inputs.rows.read("kept"):
            choice = verdicts[record.id]
            check = Check(
                name=self.select.kind,
                value=choice.value,
                passed=choice.chosen,
                reason=choice.reason,
                detail=choice.detail,
            )
            out.write(record.checked(check))
            tally.count(check)
        out.manifest.ledger.append(tally)
        if tally.kept < self.keep:
            note = f"kept all {tally.kept} records there were, fewer than keep: {self.keep}"
            out.manifest.notes.append(note)
            console.warn(note)

    def _candidates(self, rows: Rows) -> Candidates:
        import numpy as np

        ids: list[str] = []
        scores: list[float] = []

        def texts() -> Iterator[str]:
            for record in rows.read("kept"):
                ids.append(record.id)
                scores.append(record.scored(self.score) or 0.0)
                yield self.embed.of(record)

        stream = texts()
        first = next(stream, None)
        if first is None:
            raise PipelineError(
                "there is nothing to curate: no record was kept before this stage",
                hint="`pipeline show PLAN filter --dropped` shows why",
            )
        vectors = self.embed.encode(chain([first], stream), rows.count("kept"))
        if len(set(ids)) != len(ids):
            raise PipelineError("two records have the same id; ids must be unique")
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return Candidates([ids[i] for i in order], vectors[order], np.asarray(scores)[order])


def _blocks(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    while block := list(islice(texts, size)):
        yield block
