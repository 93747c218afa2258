"""The shape of the code: who imports whom, how light an import is, how long things get, what is documented."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "prompts", "filters", "stages")
MAY_IMPORT = {
    "pipeline": {"pipeline"},
    "prompts": {"prompts", "pipeline"},
    "filters": {"filters", "prompts", "pipeline"},
    "stages": {"stages", "filters", "prompts", "pipeline"},
}
FLOORS = (
    {"errors", "machine", "visible"},
    {"records", "component", "models", "console"},
    {"config", "torch_model", "embedder_openvino"},
    {"embedder"},
    {"engines"},
    {"memo", "store"},
    {"run"},
    {"job"},
)
DOOR = (
    "pipeline.cli",
    "pipeline.cli_ablate",
    "pipeline.cli_ask",
    "pipeline.cli_keep",
    "pipeline.cli_look",
    "pipeline.cli_publish",
    "pipeline.cli_report",
    "pipeline.cli_ship",
    "pipeline.cli_speculate",
    "pipeline.cli_stages",
)
HEAVY = ("torch", "transformers", "vllm", "numpy")
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> set[str]:
    """Dotted names a file imports anywhere, functions and TYPE_CHECKING blocks included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def is_or_in(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    """A package imports only what stands below it; the command line alone may reach up to the stages."""
    for file in (ROOT / package).rglob("*.py"):
        allowed = MAY_IMPORT[package] | ({"stages", "filters"} if name_of(file) in DOOR else set())
        ours = {n for n in imports(file) if n.split(".")[0] in (*PACKAGES, "tests")}
        assert not {n for n in ours if n.split(".")[0] not in allowed}, file


def test_nothing_imports_the_command_line() -> None:
    """Only `python -m pipeline` opens the door from outside."""
    guests = [f for f in FILES if any(is_or_in(n, "pipeline.cli") for n in imports(f))]
    assert [name_of(f) for f in guests] == ["pipeline.__main__"]


def test_pipeline_is_built_in_floors() -> None:
    """A module of `pipeline` imports only modules on the floors below its own."""
    floor = {name: n for n, names in enumerate(FLOORS) for name in names}
    for file in (ROOT / "pipeline").rglob("*.py"):
        own = name_of(file).partition(".")[2].split(".")[0]
        if own not in floor:
            continue
        below = {n for n, height in floor.items() if height < floor[own]} | {own, "__version__"}
        for name in imports(file):
            if is_or_in(name, "pipeline"):
                assert name.split(".")[1] in below, f"{file.relative_to(ROOT)} imports {name}"


def test_every_floor_is_real() -> None:
    """Each module named in the floors exists, so that the test above cannot pass by a typo."""
    there = {p.stem for p in (ROOT / "pipeline").iterdir()}
    assert set().union(*FLOORS) <= there


@pytest.mark.parametrize("module", ["stages.plan", "stages.flow", "pipeline.cli"])
def test_importing_is_light(module: str) -> None:
    """A plan can be read, and help shown, without loading a deep-learning library."""
    code = f"import {module}, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_module_and_no_function_is_long(file: Path) -> None:
    """At most 300 lines a module and 50 a function."""
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{file}:{node.lineno} {node.name}"


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a module, and the public methods of those classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_everything_public_is_documented(file: Path) -> None:
    """Modules, public functions, classes and methods have a docstring."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    bare = [node.name for node in public(tree.body) if not ast.get_docstring(node)]
    assert not bare
