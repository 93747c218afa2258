"""Where a model is: a Hub id, a local path or a bundled `demo:` name; and what its files say of it.

Nothing here loads a model or imports torch. A local model's revision is a digest over its small files
whole and its weights by sample, so that a retrained model in the same folder counts as another one.
"""

import hashlib
import json
import os
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from pipeline import machine
from pipeline.errors import ModelError

DEMO = "demo:"
FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "README.md"]
SAMPLE, SAMPLES, WHOLE = 1 << 16, 64, 1 << 22


class Model(NamedTuple):
    """`where` is what loaders take: a folder, or a Hub id when `local` is false."""

    name: str
    where: str
    revision: str
    licence: str
    local: bool


def models_home() -> Path:
    """`$PIPELINE_MODELS`, else `data/models` here, else beside the installed code."""
    if home := os.environ.get("PIPELINE_MODELS"):
        return Path(home)
    here = Path("data/models")
    return here if here.is_dir() else Path(__file__).resolve().parent.parent / "data/models"


def looks_local(name: str) -> bool:
    """Whether a name is a path rather than a Hub id."""
    return name.startswith(("/", "./", "../", "~")) or Path(name).is_dir()


def find(name: str, revision: str = "") -> Model:
    """Resolve a model. Raises ModelError where a path or demo model is absent.

    A Hub id that is not in the local cache resolves too: `ensure` fetches it.
    """
    if name.startswith(DEMO) or looks_local(name):
        folder = models_home() / name.removeprefix(DEMO) if name.startswith(DEMO) else Path(name).expanduser()
        if not any((folder / file).is_file() for file in ("config.json", "modules.json")):  # sentence-transformers'
            hint = "`make models` fetches the demo models" if name.startswith(DEMO) else ""
            raise ModelError(f"model {name}: no config.json in {folder}", hint=hint)
        return Model(name, str(folder.resolve()), _content(folder.resolve()), _licence(folder), True)
    snapshot = cached(name, revision)
    licence = _licence(snapshot) if snapshot else ""
    return Model(name, name, revision or (snapshot.name if snapshot else "main"), licence, False)


def ensure(name: str, revision: str = "") -> Model:
    """Like `find`, but fetches a Hub model that is not here yet. Raises ModelError."""
    model = find(name, revision)
    if model.local or cached(name, revision) is not None:
        return model
    if offline():
        raise ModelError(
            f"model {name} is not in the local cache and HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE, or name a local folder",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        snapshot_download(name, revision=revision or None, allow_patterns=FILES)
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model {name} cannot be fetched from the Hub: {why}",
            hint="check the name, the network and HF_TOKEN; or name a local folder",
        ) from error
    return find(name, revision)


def offline() -> bool:
    """Whether the user has switched the Hub off."""
    return os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")


def hub_cache() -> Path:
    """Where Hub models are kept."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def cached(name: str, revision: str = "") -> Path | None:
    """The folder of a Hub model in the local cache, if it is there."""
    hub = hub_cache() / f"models--{name.replace('/', '--')}"
    ref = hub / "refs" / (revision or "main")
    commit = ref.read_text().strip() if ref.is_file() else revision
    snapshot = hub / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def parameters(name: str, revision: str = "") -> int:
    """Number of parameters counted from safetensors headers; 0 where the files are not at hand."""
    model = find(name, revision)
    folder = Path(model.where) if model.local else cached(name, revision)
    return sum(_count(f) for f in folder.glob("*.safetensors")) if folder else 0


def refuse_too_large(model: Model, dtype: str) -> None:
    """Raise ModelError where weights and cache pass the free memory: the kernel would kill the run without a word."""
    weights = parameters(model.name, model.revision) * (4 if dtype == "float32" else 2)
    need, free = weights + machine.kv_cache_gib() * machine.GIB, machine.memory_available()
    if free and need > free:
        raise ModelError(
            f"{model.name} needs about {need / machine.GIB:.1f} GiB in {dtype}, and {free / machine.GIB:.1f} are free",
            hint="take a smaller model, set its dtype to bfloat16, or free memory",
        )


def _count(file: Path) -> int:
    with file.open("rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    total = 0
    for key, tensor in header.items():
        if key != "__metadata__":
            size = 1
            for side in tensor["shape"]:
                size *= side
            total += size
    return total


@cache
def _content(folder: Path) -> str:
    sha = hashlib.sha256()
    files = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file() and p.name != "SOURCE.json"}
    for name, file in sorted((n.as_posix(), p) for n, p in files.items() if not n.parts[0].startswith(".")):
        size = file.stat().st_size
        sha.update(f"{name} {size}\n".encode())
        with file.open("rb") as f:
            if size <= WHOLE:
                sha.update(f.read())
                continue
            for i in range(SAMPLES):
                f.seek(i * (size - SAMPLE) // (SAMPLES - 1))
                sha.update(f.read(SAMPLE))
    return sha.hexdigest()[:16]


def _licence(folder: Path) -> str:
    source, card = folder / "SOURCE.json", folder / "README.md"
    if source.is_file():
        return str(json.loads(source.read_text(encoding="utf-8")).get("licence", ""))
    if card.is_file() and (text := card.read_text(encoding="utf-8", errors="replace")).startswith("---"):
        try:
            front = yaml.safe_load(text.split("---")[1])
        except yaml.YAMLError:
            return ""
        return str(front.get("license", "")) if isinstance(front, dict) else ""
    return ""
