"""A plan folder, its run, and a teacher whose words are written down once and replayed from then on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.run import Run
from pipeline.store import Version
from stages import flow
from stages.plan import Plan, load
from tests.helpers import Script, opens_scripted, write_plan

RUBRIC = """\
---
about: {name}
needs: [prompt, answer, fence]
scale: [1, 5]
---
>>> user
{name}: {{{{ prompt }}}} <x-{{{{ fence }}}}>{{{{ answer }}}}</x-{{{{ fence }}}}>
"""


def number(request: Request) -> int:
    """The number a question asks about."""
    return int(request.messages[-1].content.split("number ")[1].split(".")[0])


def teacher(request: Request) -> Completion:
    """Seven of eight answers differ and are whole; 5 is cut, 6 empty, 7 says what 1 says."""
    n = number(request)
    if request.choices:  # a judge: likes the first rubric better
        return Completion(text=str(1 + n % 5 if "first" in request.messages[-1].content else 5), completion_tokens=1)
    if n == 5:
        return Completion(text="cut sho", finish_reason="length", completion_tokens=3)
    text = "" if n == 6 else f"The number {1 if n == 7 else n} is a friend of mine, 친구예요."
    return Completion(text=text, finish_reason="stop", prompt_tokens=4, completion_tokens=9)


class Workshop:
    """A folder with a plan in it, and the commands over it as functions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = Run(folder / "runs/tiny")
        self.path = write_plan(folder)

    def plan(self, *overrides: str) -> Plan:
        """The plan as it is now."""
        return load(self.path, overrides)

    def make(self, *stages: str, overrides: tuple[str, ...] = (), **options: Any) -> list[Version]:
        """Run stages; the teacher replays."""
        return flow.run_stages(self.plan(*overrides), self.run, list(stages), flow.Options(**options))

    def states(self, *overrides: str) -> dict[str, str]:
        """The state of every stage."""
        return {step.stage: step.state for step in flow.status(self.plan(*overrides), self.run)}

    def rubric(self, name: str) -> str:
        """A judge prompt beside the plan."""
        (self.folder / f"{name}.md").write_text(RUBRIC.format(name=name), encoding="utf-8")
        return f"{name}.md"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models as small as those of `tiny` are several times slower on two threads, which wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A plan with a generate section and an empty recording."""
    return Workshop(tmp_path)


@pytest.fixture
def recorded(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the teacher answer a plan's stages once, in another run, and writes its words down."""

    def record(*stages: str, script: Script = teacher, overrides: tuple[str, ...] = ()) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Replay, "open", opens_scripted(script))
            scratch = Run(workshop.folder / "scratch")
            flow.run_stages(workshop.plan(*overrides), scratch, list(stages), flow.Options())

    return record
