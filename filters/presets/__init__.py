"""Lists of rules to start from, as plain YAML: `rules: korean` in a plan, or `pipeline preset korean` to copy."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Loader, nearest

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """The presets there are."""
    return sorted(file.stem for file in HERE.glob("*.yaml"))


def text(name: str) -> str:
    """A preset as it is written. Raises ValueError for another name."""
    if name not in names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(names())}{nearest(name, names())}")
    return (HERE / f"{name}.yaml").read_text(encoding="utf-8")


def rules(name: str) -> list[dict[str, Any]]:
    """A preset's rules, to be validated."""
    found: list[dict[str, Any]] = yaml.load(text(name), Loader)
    return found
