"""What each stage took: time, tokens, money."""

from pipeline import console
from stages.report.base import Section, Source, Table, figure, words

TITLE = "Cost"
FIRST = ("seconds", "asked", "prompt_tokens", "completion_tokens", "engine_seconds", "cost")


def section(source: Source) -> Section:
    """A line for every stage, and the sum."""
    used = {version.manifest.stage: version.manifest.usage for version in source.versions()}
    every = {key for usage in used.values() for key in usage}
    total = {key: sum(usage.get(key, 0) for usage in used.values()) for key in every}
    keys = sorted(total, key=lambda key: (FIRST.index(key) if key in FIRST else len(FIRST), key))
    rows = [[name, *(_cell(key, usage.get(key)) for key in keys)] for name, usage in {**used, "all": total}.items()]
    head = [words(key.replace("_seconds", " time").replace("seconds", "time")) for key in keys]
    return Section("cost", TITLE, {"table": Table(["", *head], rows, tuple(head)), "paid": "cost" in total})


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return ""
    if key.endswith("seconds"):
        return console.clock(value)
    return f"{value:,.4f}" if key == "cost" else figure(value, key)
