"""Every component of every family, and an example of each; a new component fails the contract until it has one."""

from pathlib import Path
from typing import Any

from pipeline.component import Component, kind_of, members
from stages.kinds import FAMILIES
from tests.filters import tiny_reward
from tests.helpers import empty_recording, stub_model
from tests.stages import tiny

ASK = "---\nabout: x\nneeds: [character]\n---\n>>> user\nA story about {{ character }}.\n"
RUBRIC = (
    "---\nabout: x\nneeds: [prompt, answer, fence]\nscale: [1, 5]\n---\n"
    ">>> user\n{{ prompt }} <text-{{ fence }}>{{ answer }}</text-{{ fence }}>\n"
)
COMPONENTS = [(family, component) for family, union in FAMILIES.items() for component in members(union)]
NAMES = [f"{family}-{kind_of(component)}" for family, component in COMPONENTS]


def of(family: str) -> list[type[Component]]:
    """The components of one family."""
    return [component for name, component in COMPONENTS if name == family]


def example(component: type[Component], folder: Path) -> Any:
    """A valid component with as few settings as it needs."""
    return component.model_validate({"kind": kind_of(component)} | required(kind_of(component), folder))


def working(component: type[Component], folder: Path) -> Any:
    """The same, and a model that it names can be loaded; to make one takes torch, which takes seconds."""
    one = example(component, folder)
    if kind_of(component) in ("ifd", "perplexity"):
        tiny.folder(folder / "model", layers=1)
    if kind_of(component) == "reward":
        tiny_reward.folder(folder / "model")
    return one


def required(kind: str, folder: Path) -> dict[str, Any]:
    """The settings a kind cannot do without."""
    if kind in ("openai", "replay", "transformers", "vllm"):
        model = {"model": str(stub_model(folder / "model"))}
        return model | ({"recording": empty_recording(folder / "r.jsonl")} if kind == "replay" else {})
    if kind == "jsonl":
        (folder / "seeds.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "a"}\n')
        return {"path": folder / "seeds.jsonl"}
    if kind == "completions":
        said = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
        (folder / "said.jsonl").write_text(3 * said)
        return {"path": folder / "said.jsonl"}
    if kind == "documents":
        (folder / "page.txt").write_text("\n\n".join(f"Paragraph {n}. " + "Words. " * 20 for n in range(4)))
        return {"path": folder / "page.txt", "chunk_tokens": 64}
    if kind in ("gradient", "ifd", "perplexity", "reward"):
        return {"model": str(stub_model(folder / "model"))}
    if kind == "leak":
        (folder / "set.jsonl").write_text('{"question": "How many foxes ran home when the moon was out?"}\n')
        return {"references": [folder / "set.jsonl"]}
    if kind == "python":
        (folder / "rule.py").write_text("def short(record):\n    return len(record.answer) < 99\n")
        return {"function": f"{folder}/rule.py:short"}
    (folder / "ask.md").write_text(ASK)
    (folder / "rubric.md").write_text(RUBRIC)
    settings: dict[str, dict[str, Any]] = {
        "doc_qa": {"field": "prompt"},
        "magpie": {"system_field": "prompt"},
        "self_instruct": {"field": "prompt"},
        "rewrite": {"how": "translate", "to": "Korean", "field": "prompt"},
        "grid": {"axes": {"prompt": ["a", "b", "c"]}},
        "template": {"prompt": folder / "ask.md"},
        "judge": {"prompt": folder / "rubric.md"},
        "words": {"banned": ["robot"]},
        "language": {"want": "ko"},
        "mixture": {"by": "task"},
        "feature": {"features": {"layers": [[0, 0]]}},
        "attention": {"attention": {"layers": [[0, 0]]}},
        "cascade": {"through": [{"model": "middle"}]},
        "private": {"epsilon": 3},
    }
    return settings.get(kind, {})
