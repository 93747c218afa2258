"""Preference pairs out of a filter version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import console
from pipeline.engines import Completion, Request
from pipeline.errors import UsageError
from pipeline.records import Check, Record
from stages.pairs import Pairs, PairWriter
from tests.helpers import record
from tests.stages import tiny
from tests.stages.conftest import Workshop


def scored(id: str, score: float, *, prompt: str = "Name a colour.", reason: str = "", **more: Any) -> Record:
    """A row that a judge has seen."""
    check = Check(name="judge", value=score, passed=not reason, reason=reason)
    return record(f"answer {id}", id=id, prompt=prompt, task="preference", **more).checked(check)


def pairs_of(*rows: Record, folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """The lines of the training file."""
    writer = PairWriter(Pairs(**settings))
    for row in rows:
        writer.see(row)
    writer.write(folder)
    file = folder / "pairs-00000.jsonl"
    return [orjson.loads(line) for line in file.open("rb")] if file.exists() else []


def test_best_and_worst_of_a_prompt_make_a_pair(tmp_path: Path) -> None:
    """Whatever lies between, before or after them."""
    rows = [scored("a", 3.0), scored("x", 5.0, prompt="Another."), scored("b", 4.5), scored("c", 3.5)]
    (pair,) = pairs_of(*rows, folder=tmp_path)
    assert pair["prompt"] == [{"role": "user", "content": "Name a colour."}]
    assert pair["chosen"] == [{"role": "assistant", "content": "answer b"}]
    assert pair["rejected"] == [{"role": "assistant", "content": "answer a"}]
    assert (pair["chosen_id"], pair["chosen_score"]) == ("b", 4.5)
    assert (pair["rejected_id"], pair["rejected_score"]) == ("a", 3.0)
    assert pair["split"] == "train"


def test_the_rejected_one_may_have_been_dropped_by_the_rule_and_by_no_other(tmp_path: Path) -> None:
    """Chosen is a kept row; rows without a measure, or dropped elsewhere, take no part."""
    low = scored("low", 1.5, reason="low_score")
    unread = scored("unread", 0.0, reason="unreadable_verdict")
    longer = scored("longer", 5.0).checked(Check(name="length", passed=False, reason="too_long"))
    never = record("never judged", id="never", prompt="Name a colour.", task="preference")
    (pair,) = pairs_of(low, unread, longer, never, scored("good", 4.0), folder=tmp_path)
    assert (pair["chosen_id"], pair["rejected_id"]) == ("good", "low")
    assert not pairs_of(low, scored("lower", 1.0, reason="low_score"), folder=tmp_path / "none")


def test_answers_that_lie_close_make_no_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The margin is inclusive; no pair at all is said aloud and leaves no file."""
    monkeypatch.setattr(console, "_quiet", False)
    rows = [scored("a", 3.0), scored("b", 3.5)]
    assert not pairs_of(*rows, folder=tmp_path, min_margin=0.51)
    assert "no pair among 1 prompts" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert len(pairs_of(*rows, folder=tmp_path, min_margin=0.5)) == 1


def test_tasks_and_splits_are_kept_apart(tmp_path: Path) -> None:
    """Held-out answers never reach the training pairs, nor do two tasks mix."""
    other = [scored("h", 1.0, split="heldout"), scored("i", 5.0, split="heldout")]
    assert not pairs_of(scored("a", 5.0), *other, folder=tmp_path)
    (pair,) = [orjson.loads(line) for line in (tmp_path / "heldout_pairs-00000.jsonl").open("rb")]
    assert (pair["chosen_id"], pair["split"]) == ("i", "heldout")
    more = scored("b", 1.0).model_copy(update={"task": "respond"})
    assert not pairs_of(scored("a", 5.0), more, folder=tmp_path / "tasks")


def test_a_filter_version_holds_its_pairs(workshop: Workshop, recorded: Callable[..., None]) -> None:
    """The stage writes and seals them, counts them, and the same plan gives the same bytes."""
    judge = workshop.rubric("judge")
    overrides = (
        "generate.task={kind: preference, answers: 2}",
        f"filter={{rules: [{{kind: judge, prompt: {judge}, min_score: 2}}], pairs: {{min_margin: 1}}}}",
    )

    def script(request: Request) -> Completion:
        if request.choices:
            last = request.messages[-1].content.split(">")[1]
            return Completion(text=str(1 + int(last.split(" ")[1]) % 5), completion_tokens=1)
        return Completion(text=f"Take {request.seed} of them.", finish_reason="stop", completion_tokens=4)

    recorded("generate", "filter", script=script, overrides=overrides)
    _, made = workshop.make("generate", "filter", overrides=overrides)
    lines = [orjson.loads(line) for line in (made.path / "pairs-00000.jsonl").open("rb")]
    counts = made.manifest.figures["pairs"]
    assert lines and counts["pairs"] == len(lines)
    assert all(line["chosen_score"] - line["rejected_score"] >= 1 for line in lines)
    assert "pairs-00000.jsonl" in {file.file for file in made.manifest.files}
    _, again = workshop.make("generate", "filter", overrides=overrides, again=True)
    assert (again.path / "pairs-00000.jsonl").read_bytes() == (made.path / "pairs-00000.jsonl").read_bytes()


def test_pairs_by_a_rule_that_is_not_there_are_refused(workshop: Workshop) -> None:
    """The nearest rule is named when the plan is read."""
    with pytest.raises(UsageError, match="no rule is called; did you mean length"):
        workshop.plan("filter={rules: [{kind: length}], pairs: {by: lenght}}")


@pytest.mark.slow
def test_trl_trains_on_the_file_as_it_is(tmp_path: Path) -> None:
    """`datasets` reads it, TRL sees conversational preference data with a prompt, and DPOTrainer takes a step."""
    import datasets
    from trl import DPOConfig, DPOTrainer
    from trl.data_utils import is_conversational, maybe_extract_prompt

    rows = [scored("a", 5.0, prompt="the fox"), scored("b", 1.0, prompt="the fox", reason="low_score")]
    assert pairs_of(*rows, folder=tmp_path)
    read = datasets.load_dataset("json", data_files=str(tmp_path / "pairs-*.jsonl"), split="train", cache_dir=tmp_path)
    row = read[0]
    assert is_conversational(row) and maybe_extract_prompt(row) == row
    config = DPOConfig(output_dir=str(tmp_path / "dpo"), use_cpu=True, bf16=False, max_steps=1, report_to="none")
    trainer = DPOTrainer(str(tiny.folder(tmp_path / "model", 1)), args=config, train_dataset=read)
    assert trainer.train().training_loss == pytest.approx(0.693, abs=0.01)  # log 2 where nothing is preferred yet
