"""What this machine has: cores, memory, GPUs. Asked without importing torch."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

GIB = 1 << 30


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_list() -> str:
    """The cores this process may use, as vLLM's thread binding takes them: `0-1` or `0,2,3`."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores()))
    if usable == list(range(usable[0], usable[-1] + 1)):
        return f"{usable[0]}-{usable[-1]}"
    return ",".join(str(c) for c in usable)


def memory_total() -> int:
    """Bytes of memory, the cgroup's limit included."""
    total = _meminfo("MemTotal")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text)) if total else int(text)
    return total


def memory_available() -> int:
    """Bytes that can be taken now; 0 where the system does not tell."""
    return _meminfo("MemAvailable")


def kv_cache_gib() -> int:
    """GiB of KV cache for vLLM on a CPU: an eighth of what is free, 1 to 4."""
    return max(1, min(4, memory_available() // GIB // 8))


def _meminfo(name: str) -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


@cache
def bf16() -> bool:
    """Whether the CPU has instructions for bfloat16 (others are many times slower); True where it does not tell."""
    try:
        said = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    flags = next((line.split() for line in said.splitlines() if line.startswith(("flags", "Features"))), [])
    return not flags or any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


@cache
def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs this process may use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ()
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    asked = subprocess.run(
        [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return tuple(line.strip() for line in asked.stdout.splitlines() if line.strip()) if asked.returncode == 0 else ()
