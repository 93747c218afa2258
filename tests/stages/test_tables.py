"""Tables on a terminal: what models and users wrote is text there, and no terminal obeys it."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from pipeline.records import Check, MadeBy
from pipeline.run import Run
from pipeline.store import Tally, Version
from stages import agreement_tables, tables
from stages.agreement import Figure
from stages.calibrate import Calibration
from stages.estimate import Estimate
from stages.estimate import Figure as Predicted
from stages.explain import Near, Sample, Threshold
from stages.review import Agreed, Read
from tests.helpers import record
from tests.pipeline.test_cli import finished, pipeline
from tests.stages.conftest import recorded, workshop
from tests.stages.sealed import seal

__all__ = ["finished", "recorded", "workshop"]  # fixtures
PLANTED = "\x1b[2J\x1b]0;gone\x07\x9b2J[/bold][red]"  # clears the screen, renames the window; marks of rich


def printed(*things: RenderableType) -> str:
    """What reaches a terminal that takes no colours."""
    out = io.StringIO()
    for thing in things:
        Console(file=out, width=200, no_color=True, force_terminal=False).print(thing)
    return out.getvalue()


@pytest.fixture
def planted(tmp_path: Path) -> Version:
    """A version in which every text that somebody else writes is an attack."""
    checks = [Check(name=f"judge{PLANTED}", value=1)]
    kept = record(f"answer {PLANTED}", id=f"k{PLANTED}", prompt=PLANTED, checks=checks, made_by=MadeBy(model=PLANTED))
    lost = kept.checked(Check(name=f"rule{PLANTED}", passed=False, reason="low", detail=f"detail {PLANTED}"))
    sample = {"id": "k", "prompt": f"asked {PLANTED}", "heldout": "", f"model{PLANTED}": f"said {PLANTED}"}
    ledger = [Tally(step=f"rule{PLANTED}", came=2, kept=1, dropped={"low": 1})]
    return seal(Run(tmp_path), "filter", [kept, lost], {"samples.jsonl": [sample]}, ledger=ledger)


def test_nothing_planted_is_obeyed(planted: Version) -> None:
    """Escape sequences are signs to be read, marks of rich are letters."""
    near = Threshold(PLANTED, "min", "min", 1.0, 2, 1, [0.0, 1.0, 2.0], [1, 1], [Near(1.0, 1)],
                     [Sample(1.0, True, PLANTED, f"text {PLANTED}")])  # fmt: skip
    shown = [
        tables.funnel([planted]), tables.examples(planted, 3), tables.drops(planted, 3),
        *tables.side_by_side(planted, 3), tables.explained(near),
        tables.prediction(Estimate([Predicted(PLANTED, 1, 1, 1, 1)], [])),
        agreement_tables.calibration(Calibration(PLANTED, "scores", 3, {}, [Figure("kappa", 0.5)], [])),
        agreement_tables.reviewed(Read([Agreed(PLANTED, 1, 1, Figure("", 0.5))], 1, 0, 0.5, Path("gold"))),
    ]  # fmt: skip
    for thing in shown:
        said = printed(thing)
        assert not {"\x1b", "\x07", "\x9b"} & set(said)
        assert "\u241b[2J" in said and "[/bold][red]" in said.replace("\n", "")


@given(st.text(), st.integers(20, 60))
def test_brief_is_one_short_line_of_signs(text: str, width: int) -> None:
    """Whatever stands in it."""
    said = tables.brief(text, width)
    assert len(said) <= width + 4 and not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in said)


def test_settings_are_no_marks(finished: Path) -> None:
    """A setting of the plan that looks like a mark of rich is shown as it is, with the stage that differs by it."""
    rules = 'filter.rules=[{"kind": "words", "banned": ["[/x]", "\\u001b[2J"]}]'
    for command in ("status", "check"):
        done = pipeline(finished, command, "plan.yaml", "--set", rules)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr and "\x1b" not in done.stdout and "words" in done.stdout
    done = pipeline(finished, "status", "plan.yaml", "--set", 'filter.rules.0.name="[/x]"')
    assert done.returncode == 0 and "[/x]" in done.stdout
