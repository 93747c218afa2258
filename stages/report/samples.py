"""What teacher, untrained and trained student answer to the same prompts."""

from typing import Any, NamedTuple

from stages.report.base import Section, Source, cut, not_run
from stages.show import lines

TITLE = "The models side by side"
FILE = "samples.jsonl"
SHOWN = 12
NAMES = {"heldout": "held-out answer", "untrained": "untrained student", "trained": "trained student"}
NOT_ANSWERS = ("id", "prompt")


class Sample(NamedTuple):
    """One prompt, and what was said to it, by who said it."""

    id: str
    prompt: str
    answers: dict[str, str]


def section(source: Source) -> Section:
    """The first prompts that every model answered."""
    version = source.version("evaluate")
    if version is None:
        return not_run("samples", TITLE, source, "evaluate")
    rows = lines(version.path / FILE, SHOWN) if (version.path / FILE).is_file() else []
    found = [_sample(row) for row in rows]
    return Section("samples", TITLE, {"samples": found}, "" if found else "The evaluation asked for no samples.")


def _sample(row: dict[str, Any]) -> Sample:
    said = {NAMES.get(k, k): cut(v) for k, v in row.items() if isinstance(v, str) and k not in NOT_ANSWERS}
    return Sample(str(row.get("id", "")), cut(str(row.get("prompt", ""))), said)
