"""why, over a real model's words: what every record was asked and read from is found again."""

import shutil
from pathlib import Path

import pytest

from pipeline.run import Run
from stages import flow
from stages.plan import load
from stages.why import why
from tests.golden.record import folders


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_every_question_is_put_together_again(folder: Path, tmp_path: Path) -> None:
    """Dropped records too: the seed, every question of the script, and the one answer the record stems from."""
    shutil.copytree(folder, tmp_path / "plan")
    plan, run = load(tmp_path / "plan/plan.yaml"), Run(tmp_path / "run")
    made, *_ = flow.run_stages(plan, run, list(plan.stages()), flow.Options())
    for record in made.everything():
        story = why(plan, run, record.id)
        assert [seed.id for seed in story.seeds] == record.seeds
        assert story.notes == []
        if plan.teacher is None or record.made_by.engine == "stored":
            assert story.asked == []
        else:
            assert all(one.remembered for one in story.asked)
            (gave,) = (one for one in story.asked if one.gave)
            assert record.dropped or record.answer in gave.said or record.task in ("doc_qa", "reason", "self_instruct")
