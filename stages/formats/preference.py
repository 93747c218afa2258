"""`preference`: pairs of answers, as TRL's DPOTrainer reads them."""

from collections.abc import Iterator
from typing import ClassVar

from pipeline.errors import UsageError
from pipeline.run import Run
from pipeline.store import Version
from stages.formats.base import Format, Left, Line
from stages.intake import VersionRows
from stages.objectives import base, pair


class Preference(Format):
    """`prompt`, `chosen`, `rejected` as lists of turns (TRL's DPOTrainer): pairs of `filter.pairs`; no reasoning."""

    name: ClassVar[str] = "preference"

    def lines(self, run: Run, version: Version) -> Iterator[Line | Left]:
        """The pairs whose chosen answer is a row of the version. Raises UsageError where no filter wrote any."""
        judged_by = run.behind(version, "filter")
        if judged_by is None:
            raise UsageError(
                "these rows come from no filter version, which alone writes preference pairs",
                hint="filter.pairs: {} in the plan, then `pipeline filter PLAN`",
            )
        for row in pair.judged(VersionRows(version), judged_by):
            yield Left(row.reason) if isinstance(row, base.Left) else Line(row)
