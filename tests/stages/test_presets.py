"""Presets are lists of rules that load, and that leave good rows alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from filters import presets
from pipeline.cli import app
from pipeline.config import Loader
from pipeline.records import Record
from stages.filter import FilterStage
from tests.helpers import record
from tests.stages.conftest import Workshop

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_rules(name: str) -> None:
    """By name and as the YAML one copies it is the same list, the duplicates' rules last."""
    named, copied = FilterStage.model_validate({"rules": name}), yaml.load(presets.text(name), Loader)
    assert named == FilterStage.model_validate({"rules": copied})
    assert [r.label for r in named.rules][-2:] == ["exact", "near"]
    told = CliRunner().invoke(app, ["preset", name])
    assert told.exit_code == 0 and told.stdout.strip() == presets.text(name).strip()


def test_the_names_are_told() -> None:
    """Without a name the command lists them; a wrong one names the nearest."""
    assert CliRunner().invoke(app, ["preset"]).stdout.split() == ["code", "instruct", "korean", "story"]
    with pytest.raises(ValueError, match="did you mean korean"):
        presets.text("koraen")


def good(name: str) -> Iterator[Record]:
    """Rows that people wrote."""
    match name:
        case "stories_ko":
            for file in sorted((SHARED / "stories_ko").rglob("*.md")):
                yield record(file.read_text(encoding="utf-8"), prompt="동화를 하나 들려주세요.", id=file.stem)
        case "self_instruct":
            for line in (SHARED / "self_instruct/seed_tasks.jsonl").open(encoding="utf-8"):
                task = json.loads(line)
                asked = "\n\n".join(filter(None, (task["instruction"], task["instances"][0]["input"])))
                yield record(task["instances"][0]["output"], prompt=asked, id=task["id"])
        case "gsm8k":
            for n, line in enumerate((SHARED / "gsm8k/test.jsonl").open(encoding="utf-8")):
                row = json.loads(line)
                yield record(row["answer"], prompt=row["question"], id=str(n))


@needs_data
@pytest.mark.parametrize(
    ("preset", "rows", "most"),
    [("korean", "stories_ko", 0.0), ("story", "stories_ko", 0.0), ("instruct", "self_instruct", 0.02),
     ("instruct", "gsm8k", 0.003)],
)  # fmt: skip
def test_good_rows_survive(workshop: Workshop, preset: str, rows: str, most: float) -> None:
    """Human rows: none of the Korean stories goes, 3 of 175 seed tasks (two with blanks, one refusal) do."""
    plan = yaml.safe_load(workshop.path.read_text())
    workshop.path.write_text(yaml.safe_dump(plan | {"filter": {"rules": preset}}))
    found = list(good(rows))
    (workshop.folder / "rows.jsonl").write_bytes(b"".join(r.line() for r in found))
    (version,) = workshop.make("filter", input=str(workshop.folder / "rows.jsonl"))
    dropped = [(r.reason, r.detail) for r in version.read("dropped")]
    assert len(found) >= 20
    assert len(dropped) <= most * len(found), dropped
