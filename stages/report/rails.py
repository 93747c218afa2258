"""Guard rails: figures beside the range that practitioners report as healthy, notes of the stages, and licences."""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import PipelineError
from pipeline.models import find
from pipeline.run import Run
from stages import tables
from stages.calibrate import FEW
from stages.card_facts import gather
from stages.formats.export import ROWS
from stages.licences import Chain, chain
from stages.licences import Source as Licensed
from stages.report.base import Section, Source, Table, model_name
from stages.show import lines

TITLE = "Guard rails and licences"


class Rail(NamedTuple):
    """One figure beside what is healthy."""

    name: str
    value: str
    healthy: str
    ok: bool


def section(source: Source) -> Section:
    """What is known of the run, and what its licences ask."""
    notes = [(v.manifest.stage, note) for v in source.versions() for note in v.manifest.notes]
    found, problem = _licences(source)
    rows = [[one.what, model_name(one.name), licence.known_as] for one, licence in found.sources] if found else []
    licences = Table(["what", "name", "licence"], rows)
    data = {"rails": list(_rails(source)), "notes": notes, "chain": found, "licences": licences, "problem": problem}
    return Section("rails", TITLE, data)


def _rails(source: Source) -> Iterator[Rail]:
    if (filtered := source.version("filter")) is not None:
        healthy = " to ".join(f"{end:.0%}" for end in tables.HEALTHY)
        yield Rail(
            "pass rate of the filters", f"{tables.pass_rate(filtered):.0%}", healthy, not tables.warnings([filtered])
        )
    trained = source.version("train")
    if trained is not None and (ratio := trained.manifest.figures.get("ratio")):
        yield Rail("teacher's parameters by the student's", f"{ratio:.1f}", "3 to 10", not tables.warnings([trained]))
    if (last := filtered or source.version("generate")) is not None:
        held, whole = last.rows("heldout"), last.rows("heldout") + last.rows("kept")
        yield Rail("rows held out for evaluation", f"{held:,} of {whole:,}", "some", held > 0)
    people = _reviewed(source.run)
    yield Rail("rows that people marked", f"{people:,}", f"{FEW} or more", people >= FEW)


def _reviewed(run: Run) -> int:
    """Rows of the gold that `review --read` wrote."""
    ids = {row.get("id") for file in run.path.glob("review/*-gold.jsonl") for row in lines(file, 100_000)}
    return len(ids)


def _licences(source: Source) -> tuple[Chain | None, str]:
    """What the licences of rows and student ask together; or why that is not known."""
    version = next((v for stage in ROWS if (v := source.version(stage)) is not None), None)
    if version is None:
        return None, "No stage that makes rows has been run."
    try:
        facts = gather(source.plan, source.run, version)
        return chain(facts.sources(), _base(source)), ""
    except PipelineError as error:
        return None, str(error)


def _base(source: Source) -> Licensed | None:
    """The model that the student was made from."""
    trained = source.version("train")
    named = trained.manifest.settings.get("student") if trained else None
    if not named:
        return None
    return Licensed("base model", named[0], find(*named).licence)
