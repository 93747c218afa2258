"""Private training of the demo model: a generator whose promise is in its manifest, and that still writes."""

import json
from pathlib import Path

import pytest

from pipeline.engines import Request, Sampling
from pipeline.engines.transformers import Transformers
from pipeline.models import models_home
from pipeline.records import Message
from pipeline.run import Run
from stages import flow
from stages.plan import load
from tests.helpers import write_plan

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]
CITIES = ("Paris", "Rome", "Oslo", "Bern", "Lima", "Cairo", "Seoul", "Quito", "Riga", "Sofia", "Doha", "Accra")


def test_a_private_generator_writes(tmp_path: Path) -> None:
    """Two steps of DP-SGD on all linear layers; the merged model answers as a model does."""
    rows = [{"prompt": "Where do you live?", "completion": f"I live in {city}."} for city in CITIES]
    private = tmp_path / "private.jsonl"
    private.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    objective = {
        "kind": "private",
        "epsilon": 8,
        "accountant": "rdp",
        "config": {"max_steps": 2},
        "lora": {"r": 2},
        "max_length": 64,
    }
    batch = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 1e-4}
    train = {"student": {"model": "demo:smollm2-135m-instruct"}, "objective": objective | batch}
    plan = load(write_plan(tmp_path, train=train))
    (version,) = flow.run_stages(plan, Run(tmp_path / "run"), ["train"], flow.Options(input=str(private)))
    told = version.manifest.figures["privacy"]
    assert 7.9 < told["epsilon"] <= 8
    assert told["sample_rate"] == pytest.approx(4 / 12)
    session = Transformers.model_validate({"model": str(version.path / "model"), "max_model_len": 128}).open()
    asked = Request(
        id="r", messages=(Message(role="user", content="What is the capital of France?"),),
        sampling=Sampling(max_tokens=24, temperature=0),
    )  # fmt: skip
    (answered,) = [a for finished in session.complete([asked]) for a in finished]
    session.close()
    assert "Paris" in answered.completion.text
