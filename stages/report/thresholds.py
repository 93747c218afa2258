"""How the measured values lie about each threshold, and the rows closest to it."""

from typing import Any, NamedTuple

from stages.explain import Near, Sample, explain
from stages.filter import FilterStage
from stages.report import chart
from stages.report.base import Section, Source, cut, discreet, figure, not_run

TITLE = "What the rules measured"
BESIDE = 2  # rows on either side of a threshold
TEXT = 400  # characters of one


class Shown(NamedTuple):
    """One threshold."""

    rule: str
    setting: str
    side: str
    bound: str
    measured: int
    kept: int
    drawn: chart.Histogram
    nearby: list[Near]
    samples: list[Sample]


def section(source: Source) -> Section:
    """A histogram for every setting that bounds a value, by the plan's thresholds."""
    version, stage = source.version("filter"), source.plan.stages().get("filter")
    if version is None or not isinstance(stage, FilterStage):
        return not_run("thresholds", TITLE, source, "filter")
    found = [
        Shown(
            one.rule, one.setting, one.side, figure(one.threshold), one.measured, one.kept,
            chart.histogram(one.edges, one.counts, one.threshold, one.side), one.nearby,
            [s._replace(text=cut(s.text, TEXT)) for s in one.samples],
        )
        for one in explain(stage, version, BESIDE)
    ]  # fmt: skip
    same = [one for one in found if len(one.drawn.bars) == 1]
    data: dict[str, Any] = {
        "thresholds": [one for one in found if one not in same],
        "same": [(one.rule, one.setting, one.bound, one.drawn.bars[0].title.partition(":")[0]) for one in same],
        "why": discreet(source.steps["filter"].why, source.file.parent),
    }
    return Section("thresholds", TITLE, data, "" if found else "No rule has a threshold on a value.")
