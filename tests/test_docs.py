"""What the guides say is true: every piece of a plan in them loads."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.plan import load
from tests.helpers import write_plan

ROOT = Path(__file__).resolve().parent.parent
FILES = ("path", "file", "requests", "banned_file")
BLOCKS = [
    pytest.param(block, id=f"{guide.stem}-{n}")
    for guide in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for n, block in enumerate(re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL))
]


def merged(base: Any, over: Any) -> Any:
    """`over` laid over `base`; a component of another kind replaces it whole."""
    if not isinstance(base, dict) or not isinstance(over, dict) or "kind" in over:
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def make_files(value: Any, folder: Path) -> None:
    """The files that a piece of a plan names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in FILES and isinstance(inner, str):
                file = folder / (f"{inner}page.md" if inner.endswith("/") else inner)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(
                    '{"prompt": "a", "answer": "b"}\n' if file.suffix == ".jsonl" else "# A title\n\nText.\n"
                )
            make_files(inner, folder)
    elif isinstance(value, list):
        for inner in value:
            make_files(inner, folder)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_piece_of_a_plan_loads(block: str, tmp_path: Path) -> None:
    """A block of YAML, laid over a plan that needs nothing else, is a plan."""
    path = write_plan(tmp_path)
    piece = yaml.safe_load(block)
    make_files(piece, tmp_path)
    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), piece)), encoding="utf-8")
    load(path)
