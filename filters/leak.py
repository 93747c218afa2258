"""Evaluation items among the training rows (contamination).

Runs of n words that a row shares with an item of an evaluation set are looked up, and how much of the item they cover
decides: with `n: 13, max_share: 0` any shared run drops the row (GPT-3; Brown et al. 2020, arXiv 2005.14165, appendix
C); 8 words and a bound on the share are the way of Llama 3 (Grattafiori et al. 2024, arXiv 2407.21783, section 5.1.4)
and the default. Rephrased items share no such runs: `rephrased` looks for them by embedding (Yang et al. 2023, arXiv
2311.04850) and confirms by the rare words and numbers they keep.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from filters.base import Context, SetFilter
from filters.overlap import SHORTEST, Overlap, References
from filters.references import format_of, items
from filters.rephrased import WINDOW, Candidate, Rephrased
from pipeline.component import PlanFile
from pipeline.engines import Engine
from pipeline.errors import UsageError
from pipeline.records import Check, Record

SHOWN = 240  # characters of an overlapping span


class Leak(SetFilter):
    """Drops rows that hold items of evaluation sets, and shows the words they share.

    Runs of words see copies, whole or in part, whatever their case, punctuation and layout. They cannot see items that
    were rephrased or translated, items under 8 words (24 characters in Hangul, Han or kana), and what `rephrased`
    misses. Every turn of a conversation is read, the reasoning with the answers.
    """

    bounds: ClassVar = (("max_share", "max"),)

    kind: Literal["leak"] = "leak"
    references: Annotated[
        tuple[PlanFile, ...], Field(min_length=1, description="JSONL, JSON, CSV, TSV, Parquet or text")
    ]
    fields: Annotated[
        tuple[str, ...], Field(description="fields of a row that count; all with text when left out")
    ] = ()
    on: Annotated[Literal["answer", "prompt", "both"], Field(description="which turns are looked at")] = "both"
    n: Annotated[int, Field(ge=3, le=50, description="words in a run; three characters of Korean count as one")] = 8
    max_share: Annotated[float, Field(ge=0, lt=1, description="how much of an item shared runs may cover")] = 0.3
    boilerplate: Annotated[int, Field(ge=1, description="runs in more items of one file than this do not count")] = 10
    rephrased: Annotated[Rephrased | None, Field(description="look for rephrased items by embedding, too")] = None

    @field_validator("references")
    @classmethod
    def _readable(cls, files: Any) -> Any:
        for file in files:
            format_of(file)
        return files

    def prepare(self) -> None:
        """Read the references once. Raises UsageError with file and line."""
        for file in self.references:
            for _ in items(file, self.fields):
                pass

    def weights(self) -> list[tuple[str, str]]:
        """The embedding model, where there is one."""
        return self.rephrased.weights() if self.rephrased else []

    def notes(self, teacher: Engine | None) -> list[str]:
        """What this setting of the rule cannot see."""
        unseen = f"items under {SHORTEST} words, translated items"
        if self.rephrased is None:
            unseen += ", rephrased items (set `rephrased`)"
        else:
            unseen += f", rephrased items less similar than {self.rephrased.min_cosine:g}"
        turns = "" if self.on == "both" else f", anything outside the {self.on}"
        return [f"{self.label}: contamination it cannot see: {unseen}{turns}"]

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One check per record; reads ahead only to embed."""
        index = References((items(file, self.fields) for file in self.references), self.n, self.boilerplate)
        if not len(index):
            raise UsageError(f"{self.label}: no item of the references has {SHORTEST} words or more")
        if self.rephrased is None:
            yield from (self._check(*self._overlap(record, index)) for record in records)
            return
        finder = self.rephrased.finder(item for file in self.references for item in items(file, self.fields))
        for window in _windows(records):
            texts = [text for record in window for _, text in self._turns(record)]
            found = finder.candidates(texts)
            for record in window:
                mine, found = found[: len(self._turns(record))], found[len(self._turns(record)) :]
                yield self._check(*self._overlap(record, index), max(mine))

    def _turns(self, record: Record) -> list[tuple[str, str]]:
        """What is looked at, and what to call it."""
        asked = "\n".join(m.content for m in record.messages if m.role != "assistant")
        said = "\n".join([*(m.content for m in record.messages if m.role == "assistant"), record.reasoning])
        return [turn for turn in (("prompt", asked), ("answer", said)) if self.on in ("both", turn[0])]

    def _overlap(self, record: Record, index: References) -> tuple[str, Overlap]:
        names, texts = zip(*self._turns(record), strict=True)
        found = index.overlaps(texts)
        best = max(range(len(found)), key=lambda n: found[n].share)
        return names[best], found[best]

    def _check(self, name: str, found: Overlap, candidate: Candidate | None = None) -> Check:
        share = round(found.share, 4)
        detail = f"{found.share:.0%} of {found.where} in the {name}: {found.span[:SHOWN]!r}" if share else ""
        if share > self.max_share:
            return self.no(share, "evaluation_item", detail)
        if candidate is None or self.rephrased is None or candidate.cosine < self.rephrased.min_cosine:
            return self.yes(share, detail)
        seen = f"cosine {candidate.cosine:.2f} to {candidate.where}, {candidate.kept:.0%} of its rare words: "
        seen += repr(candidate.text[:SHOWN])
        if candidate.kept >= self.rephrased.min_kept:
            return self.no(share, "rephrased_evaluation_item", seen)
        return self.yes(share, f"candidate: {seen}")


def _windows(records: Iterable[Record]) -> Iterator[list[Record]]:
    window: list[Record] = []
    for record in records:
        window.append(record)
        if len(window) == WINDOW:
            yield window
            window = []
    if window:
        yield window
