"""Rows of earlier runs that go along: a small buffer of what the student was taught before (continual training)."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from pipeline.component import Component, file_digest
from pipeline.errors import UsageError
from pipeline.run import Run, runs_home
from pipeline.store import Version
from stages.base import Rows
from stages.intake import FileRows, VersionRows
from stages.selectors import AnySelector
from stages.selectors.herding import Herding


def _beside_plan(source: str, info: ValidationInfo) -> str:
    """A path from the plan's folder as it is found there; anything else is the name of a run."""
    path = ((info.context or {}).get("folder", Path()) / Path(source).expanduser()).resolve()
    return str(path) if path.exists() else source


class Replay(Component):
    """A share of what is kept comes from an earlier selection, made smaller so that it still stands for the whole.

    Rehearsal against forgetting, as a tenth of old examples among new ones (Scialom et al. 2022, arXiv 2205.12393).
    """

    source: Annotated[
        str,
        AfterValidator(_beside_plan),
        Field(description="name of a run (its current curate version), a version's folder, or a JSONL file"),
    ]
    share: Annotated[float, Field(gt=0, lt=1, description="of `keep`")] = 0.1
    select: AnySelector = Herding()

    def identity(self) -> dict[str, Any]:
        """The source by its content."""
        try:
            found = self.version()
            content = found.manifest.fingerprint if found else file_digest(Path(self.source))
        except UsageError:  # said when it is needed
            content = ""
        return super().identity() | {"source": content}

    def version(self) -> Version | None:
        """The version it names; None where it names a file. Raises UsageError where it names neither."""
        path = Path(self.source)
        if (path / "manifest.json").is_file():
            return Version(path)
        if path.is_file():
            return None
        run = Run(runs_home() / self.source)
        found = run.current("curate") or run.current("filter") if run.path.is_dir() else None
        if found is None:
            raise UsageError(
                f"curate.replay: {self.source} is no run with a curate version, no version's folder and no file",
                hint=f"runs are in {runs_home()}",
            )
        return found

    def rows(self) -> Rows:
        """The rows for training. Raises UsageError."""
        found = self.version()
        return VersionRows(found) if found else FileRows(Path(self.source))
