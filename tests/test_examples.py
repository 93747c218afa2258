"""Documentation that can fail: every example plan is checked, every command in the README exists."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from pipeline.cli import app
from pipeline.errors import UsageError
from stages import start
from stages.plan import STAGES, load
from tests.helpers import stub_model

ROOT = Path(__file__).resolve().parent.parent
PLANS = sorted((ROOT / "examples").glob("*/plan.yaml"))
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a click group

each_plan = pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.parent.name)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders that pass for the demo models."""
    text = "".join(p.read_text(encoding="utf-8") for p in PLANS) + start.PLAN
    for name in {*re.findall(r"demo:([\w.-]+)", text), "all-minilm-l6-v2"}:
        stub_model(tmp_path / "models" / name)
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path / "models"


def pipeline(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_there_are_examples() -> None:
    """The two stories examples are there."""
    assert {"stories", "stories-ko"} <= {p.parent.name for p in PLANS}


@each_plan
def test_an_example_loads(plan: Path) -> None:
    """It has every section that a whole run needs, and its name is its folder's."""
    loaded = load(plan)
    assert loaded.name == plan.parent.name
    assert loaded.about
    assert loaded.generate is not None


@each_plan
def test_an_example_checks(plan: Path, tmp_path: Path, models: Path) -> None:
    """`pipeline check` says every stage would run, opens no model, reaches no network and writes nothing."""
    before = sorted(tmp_path.rglob("*"))
    done = pipeline(tmp_path, "check", str(plan), "--json")
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout) if "stage" in row]
    sections = yaml.safe_load(plan.read_text(encoding="utf-8"))
    assert [row["stage"] for row in rows] == [stage for stage in STAGES if stage in sections]
    assert {row["would"] for row in rows} == {"run"}
    assert sorted(tmp_path.rglob("*")) == before


def test_what_init_writes_checks(tmp_path: Path, models: Path) -> None:
    """The plan that `pipeline init` writes is one that `pipeline check` takes; a second init overwrites nothing."""
    assert pipeline(tmp_path, "init", "mine").returncode == 0
    done = pipeline(tmp_path, "check", "mine/plan.yaml")
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout
    written = (tmp_path / "mine/plan.yaml").read_bytes()
    again = pipeline(tmp_path, "init", "mine")
    assert (again.returncode, again.stdout) == (2, "")
    assert "exists and is not empty" in again.stderr
    assert (tmp_path / "mine/plan.yaml").read_bytes() == written


@pytest.mark.parametrize("name", ["my plan", "동화", "..", ".", "a:b", "2024", "-x", "!", "on"])
def test_what_init_writes_loads_or_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever the folder is called, init writes a plan that loads, or writes nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used").write_text("x")
    try:
        start.write(Path(name))
    except UsageError:
        assert not (tmp_path / name / "plan.yaml").exists()
    else:
        assert load(tmp_path / name / "plan.yaml").name


def test_a_mistake_exits_with_two_and_keeps_stdout_clean(tmp_path: Path) -> None:
    """Errors go to stderr in words, with the exit code of wrong use and no traceback."""
    (tmp_path / "plan.yaml").write_text("nmae: x\n")
    done = pipeline(tmp_path, "check", "plan.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean name?" in done.stderr
    assert "Traceback" not in done.stderr


def readme_commands() -> list[list[str]]:
    """Words of every `pipeline ...` line in the README's shell blocks."""
    readme = ROOT / "README.md"
    if not readme.is_file():
        return []
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(\S*/)?pipeline\s", line)]


def test_readme_commands_exist() -> None:
    """Every `pipeline` command and option in the README is one the program has."""
    if not (ROOT / "README.md").is_file():
        pytest.skip("there is no README yet")
    found = readme_commands()
    assert found
    for _, name, *words in found:
        if name.startswith("-"):
            continue
        assert name in COMMANDS, f"pipeline {name}"
        options = {option for p in COMMANDS[name].params for option in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
        before_pipe = words[: words.index("|")] if "|" in words else words
        for word in before_pipe:
            if word.startswith("-"):
                assert word.split("=")[0] in options, f"pipeline {name} {word}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    """Commands and their options have help."""
    command = COMMANDS[name]
    assert command.help
    assert not [p.opts for p in command.params if p.param_type_name == "option" and not getattr(p, "help", "")]


def test_the_readmes_filter_works() -> None:
    """The filter the README shows is a filter: it measures, it drops, it is judged like the others."""
    from typing import Literal

    from filters.base import Filter
    from pipeline.records import Check, Record
    from tests.helpers import record

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (source,) = [block for block in blocks if "class Shouting" in block]
    names: dict[str, Any] = {"Literal": Literal, "Filter": Filter, "Check": Check, "Record": Record}
    exec(source, names)
    shouting = names["Shouting"]()
    assert shouting.judge(record("A quiet story.")).passed
    assert shouting.judge(record("A LOUD STORY!")).reason == "shouting"
