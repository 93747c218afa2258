"""The vLLM engine's own decisions, before vLLM is loaded."""

from pathlib import Path

import pytest

from pipeline import machine
from pipeline.engines.vllm import Vllm
from pipeline.errors import ModelError
from tests.helpers import stub_model


def test_a_model_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory is one clear message, not a process the kernel kills."""
    monkeypatch.setattr(machine, "gpus", lambda: ())
    monkeypatch.setattr(machine, "memory_available", lambda: machine.GIB // 2)
    teacher = Vllm(model=str(stub_model(tmp_path / "model")))
    with pytest.raises(ModelError, match=r"needs about 1.0 GiB in float32, and 0.5 are free"):
        teacher.open()


def test_a_cpu_gets_float32_and_a_gpu_the_models_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 is twice as fast as bfloat16 on a CPU without bf16 units; what the plan says wins."""
    teacher = Vllm(model=str(stub_model(tmp_path / "model")))
    monkeypatch.setattr(machine, "gpus", lambda: ())
    assert teacher.words()["dtype"] == "float32"
    assert teacher.model_copy(update={"dtype": "bfloat16"}).words()["dtype"] == "bfloat16"
    monkeypatch.setattr(machine, "gpus", lambda: ("NVIDIA H100",))
    assert teacher.words()["dtype"] == "auto"
