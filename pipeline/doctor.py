"""doctor: what this machine can run, in words, and what to do about what is missing. Imports no torch."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

from pipeline import machine
from pipeline.models import cached, hub_cache, models_home, offline

CPU_INSTALL = "`make venv` installs the CPU build; with an NVIDIA GPU `make venv GPU=1`"


class Finding(NamedTuple):
    """One line: is it fine, what was found, what to do."""

    subject: str
    ok: bool
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Everything a run depends on."""
    return [_python(), _cores(), _memory(), _gpu(), _disk(), *_packages(), *_models(), _hub(), _engine()]


def _python() -> Finding:
    version = platform.python_version()
    ok = platform.python_version_tuple()[:2] >= ("3", "11")
    return Finding("python", ok, version, "" if ok else "use Python 3.11 or newer")


def _cores() -> Finding:
    n = machine.cores()
    return Finding("cores", n >= 2, f"{n} usable", "" if n >= 2 else "two or more make the teacher usable")


def _memory() -> Finding:
    total, free = machine.memory_total(), machine.memory_available()
    ok = free >= 6 * machine.GIB
    found = f"{total / machine.GIB:.1f} GiB, {free / machine.GIB:.1f} free"
    return Finding(
        "memory", ok, found, "" if ok else "the demo takes about 6 GiB; close something or lower max_num_seqs"
    )


def _gpu() -> Finding:
    gpus = machine.gpus()
    if gpus:
        return Finding("gpu", True, "; ".join(gpus))
    return Finding("gpu", True, "none: models run on the CPU, so use small ones (up to about 1 B parameters)")


def _disk() -> Finding:
    free = shutil.disk_usage(Path()).free
    ok = free >= 5 * machine.GIB
    return Finding(
        "disk", ok, f"{free / machine.GIB:.0f} GiB free here", "" if ok else "models and runs need room: 5 GiB at least"
    )


def _packages() -> list[Finding]:
    wanted = {
        "vllm": ("generate and judge", "vllm"),
        "torch": ("train and evaluate", "torch"),
        "transformers": ("generate, judge, train and evaluate", "transformers"),
        "trl": ("train", "trl"),
        "sentence-transformers": ("curate", "sentence_transformers"),
        "scikit-learn": ("curate", "sklearn"),
        "matplotlib": ("the map of curate", "matplotlib"),
        "kiwipiepy": ("Korean topics of curate", "kiwipiepy"),
        "opacus": ("train on private rows", "opacus"),
        "onnxruntime": ("export to ONNX", "onnxruntime"),
        "gguf": ("export to GGUF", "gguf"),
    }
    return [_package(name, use, module) for name, (use, module) in wanted.items()]


def _package(name: str, use: str, module: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(name, False, f"not installed; needed to {use}", CPU_INSTALL)
    for distribution in (name, f"{name}-cpu"):
        try:
            found = f"{distribution} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            continue
        return Finding(name, *_clash(name, found))
    return Finding(name, True, "installed")


def _clash(name: str, found: str) -> tuple[bool, str, str]:
    """CPU torch beside the CUDA build of torchvision breaks every model import."""
    torch = importlib.metadata.version("torch") if name == "torch" else ""
    if "+cpu" in torch and importlib.util.find_spec("torchvision") is not None:
        vision = importlib.metadata.version("torchvision")
        if "+cpu" not in vision:
            advice = "pip uninstall torchvision torchaudio torchcodec: a CUDA build beside CPU torch breaks imports"
            return False, f"{found} beside torchvision {vision}", advice
    return True, found, ""


def _models() -> list[Finding]:
    home = models_home()
    wanted = {"smollm2-135m-instruct": "the demo's teacher", "all-minilm-l6-v2": "the demo's embeddings"}
    found = []
    for name, use in wanted.items():
        there = (home / name / "config.json").is_file()
        where = f"in {home}" if there else f"not in {home} ({use})"
        found.append(Finding(f"demo:{name}", there, where, "" if there else "`make models` fetches it"))
    return found


def _hub() -> Finding:
    hub = hub_cache()
    names = [p.name.removeprefix("models--").replace("--", "/") for p in sorted(hub.glob("models--*"))]
    held = [n for n in names if cached(n)]
    found = f"{len(held)} models in {hub}" + (f": {', '.join(held[:5])}" if held else "")
    token = "HF_TOKEN is set" if os.environ.get("HF_TOKEN") else "no HF_TOKEN (gated models need one)"
    return Finding("hub cache", True, f"{found}; {'offline' if offline() else 'online'}; {token}")


def _engine() -> Finding:
    if importlib.util.find_spec("vllm") is None:
        return Finding("teacher", False, "no engine that can ask a model", CPU_INSTALL)
    if machine.gpus():
        return Finding("teacher", True, "vLLM on the GPU")
    cache = machine.kv_cache_gib()
    return Finding(
        "teacher", True, f"vLLM on the CPU, float32, threads on cores {machine.cpu_list()}, KV cache {cache} GiB"
    )
