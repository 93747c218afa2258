"""The stage with real processes and tiny models: three children, real answers, figures that hang together."""

import math
from collections.abc import Callable

import orjson
import pytest

from pipeline.store import Manifest, VersionWriter
from stages.show import lines
from tests.helpers import write_plan
from tests.stages import tiny
from tests.stages.conftest import Workshop

pytestmark = pytest.mark.slow


def test_tiny_models_are_evaluated(workshop: Workshop, recorded: Callable[..., None]) -> None:
    """The trained student is the teacher itself here, so both measure and answer the same."""
    student = {"init": {"layers": [0]}}
    axes = {"prompt": [f"Tell me about number {n}." for n in range(10, 20)]}
    sampling = {"temperature": 0.0, "max_tokens": 4}
    write_plan(
        workshop.folder,
        generate={"source": {"kind": "grid", "axes": axes}, "task": {"kind": "respond"}, "heldout": 0.6},
        train={"student": student, "objective": {"kind": "sft"}},
        evaluate={
            "answers": 3,
            "samples": 2,
            "sampling": sampling,
            "probes": [{"prompt": "the fox ?", "pattern": "."}],
        },
    )
    tiny.folder(workshop.folder / "model")
    recorded("generate")
    workshop.make("generate")
    folder = workshop.run.folder_for("train", "cd" * 32)
    settings = {"train": {"student": student, "objective": {"kind": "sft"}}}
    writer = VersionWriter(
        folder, Manifest(stage="train", version=folder.name, fingerprint="cd" * 32, settings=settings, inputs=[])
    )
    writer.begin()
    (folder / "rows.jsonl").write_bytes(orjson.dumps({"prompt": "Else?"}) + b"\n")
    tiny.folder(folder / "model")
    workshop.run.set_current(writer.seal())
    (version,) = workshop.make("evaluate")
    found = {model["model"]: model for model in version.manifest.figures["models"]}
    assert found["trained"]["perplexity"] == pytest.approx(found["teacher"]["perplexity"], rel=1e-4)
    assert found["untrained"]["parameters"] < found["trained"]["parameters"] == found["teacher"]["parameters"]
    rows = lines(version.path / "outputs.jsonl", 99)
    answered = [row["answers"] for row in rows if row["answers"]]
    assert len(answered) == 3 + 1
    assert all(row["teacher"] == row["trained"] for row in answered)
    logs = [row["scores"]["trained"]["perplexity"] * row["weights"]["trained"]["perplexity"] for row in rows[:-1]]
    tokens = sum(row["weights"]["trained"]["perplexity"] for row in rows[:-1])
    assert found["trained"]["perplexity"] == pytest.approx(math.exp(sum(logs) / tokens))
    (metric,) = (m for m in version.manifest.figures["metrics"] if m["name"] == "perplexity")
    assert metric["difference"]["teacher"]["value"] == pytest.approx(1, abs=1e-4)
