"""The vLLM engine's own decisions, before vLLM is loaded."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline import machine
from pipeline.engines import vllm_session
from pipeline.engines.vllm import Vllm
from pipeline.errors import ModelError
from pipeline.models import Model
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


def test_replicas_are_refused_with_the_way_to_have_them() -> None:
    """vLLM has no data parallelism in one process: the plan is refused, and the message names the server."""
    with pytest.raises(ValidationError, match=r"vllm serve MODEL --data-parallel-size 2` .*kind: openai"):
        Vllm(model="some/model", engine={"data_parallel_size": 2})


def test_engine_arguments_go_through_and_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plan sets under vLLM's own names reaches vLLM; workers on several nodes get no list of cores."""
    given: dict[str, Any] = {}

    def core(model: Model, arguments: dict[str, Any], log: Path | None) -> None:
        given.update(arguments)
        raise ModelError("far enough")

    monkeypatch.setattr(vllm_session, "Core", core)
    monkeypatch.setattr(machine, "gpus", lambda: ())
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    model = str(stub_model(tmp_path / "model"))
    more = {"tensor_parallel_size": 2, "kv_cache_memory_bytes": 1 << 20, "enforce_eager": False}
    with pytest.raises(ModelError, match="far enough"):
        Vllm(model=model, engine=more).open()
    assert given == given | more
    assert "VLLM_CPU_OMP_THREADS_BIND" not in os.environ
    with pytest.raises(ModelError, match="far enough"):
        Vllm(model=model).open()
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == machine.cpu_list()
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND")
