"""A local task through lm-evaluation-harness itself, offline, on a tiny model; only where it is installed."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from pipeline.errors import ModelError, UsageError
from tests.stages import tiny

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow


def task(folder: Path) -> Path:
    """Six questions with two answers each."""
    rows = [{"question": "tell me about", "choices": ["the fox", "a bear ran"], "answer": n % 2} for n in range(6)]
    (folder / "quiz.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    settings = {
        "task": "quiz", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "quiz.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (folder / "quiz.yaml").write_text(yaml.safe_dump(settings))
    return folder / "quiz.yaml"


def job(folder: Path, **more: Any) -> dict[str, Any]:
    model = {"model": str(tiny.folder(folder / "model"))}
    return {"model": model, "seed": 1, "tasks": [], "files": [], "limit": None, "chat_template": False} | more


def test_every_item_has_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One choice is always likelier: half of the items are right, and a limit takes the first ones."""
    from stages.harness import measure

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    file = str(task(tmp_path))
    (found,) = measure(job(tmp_path, files=[file]), lambda n: None)["tasks"].values()
    assert found["better"] == {"acc": True}
    assert sum(item["acc"] for item in found["items"].values()) == 3
    (few,) = measure(job(tmp_path, files=[file], limit=2), lambda n: None)["tasks"].values()
    assert few["items"] == {number: found["items"][number] for number in ("0", "1")}


def test_what_the_harness_does_not_know_or_cannot_do_is_said(tmp_path: Path) -> None:
    from stages.harness import measure

    with pytest.raises(UsageError, match="nonsense"):
        measure(job(tmp_path, tasks=["nonsense"]), lambda n: None)
    (tmp_path / "bad.yaml").write_text("task: bad\ndataset_path: json\ndataset_kwargs: {data_files: none.jsonl}\n")
    with pytest.raises(ModelError, match="lm_eval failed"):
        measure(job(tmp_path, files=[str(tmp_path / "bad.yaml")]), lambda n: None)
