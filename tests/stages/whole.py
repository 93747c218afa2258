"""A whole run, with everything that a version may hold, without a model: to be verified, damaged, taken elsewhere."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.component import file_digest
from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.engines.trace import Trace
from pipeline.records import Record
from pipeline.run import Run
from pipeline.store import ShardInfo, Tally, Version, pretty
from stages import flow, verify
from stages.verify import Verified
from tests.helpers import empty_recording, opens_scripted, write_plan
from tests.stages import sealed
from tests.stages.conftest import Workshop, number
from tests.stages.sealed import Content

SETTINGS: dict[str, Any] = {
    "source": {"kind": "grid", "axes": {"prompt": [f"Tell me about number {n}." for n in range(12)]}},
    "task": {"kind": "respond"},
    "sampling": {"top_logprobs": 2},
    "samples": 2,
    "heldout": 0.3,
}


def says(request: Request) -> Completion:
    """Answers of different lengths with their log-probabilities; a judge's score by the number asked about."""
    n = number(request)
    if request.choices:
        return Completion(text=str(1 + n % 5), completion_tokens=1)
    steps = [[(10 * n + t + i, -0.5 * (i + 1)) for i in range(2)] for t in range(n + 2)]
    trace = Trace.pack(2, [s[0][0] for s in steps], [-0.5] * len(steps), steps)
    text = "" if n == 6 else f"{n}번은 내 친구예요." + " 정말로!" * (3 * request.sample)
    return Completion(text=text, finish_reason="stop", prompt_tokens=4, completion_tokens=n + 2, trace=trace)


def make(folder: Path) -> Workshop:
    """A plan with generate, a judge and pairs, run; and versions of train and evaluate that follow from them."""
    shop = Workshop(folder)
    rules = [
        {"kind": "length", "min_chars": 5},
        {"kind": "judge", "name": "first", "prompt": shop.rubric("first"), "min_score": 2},
    ]
    sections: dict[str, Any] = {
        "generate": SETTINGS,
        "filter": {"rules": rules, "pairs": {"by": "length", "min_margin": 5}},
    }
    write_plan(folder, **sections)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replay, "open", opens_scripted(says))
        flow.run_stages(shop.plan(), Run(folder / "scratch"), ["generate", "filter"], flow.Options())
    _, filtered = shop.make("generate", "filter")
    rows = [{"id": r.id, "messages": [m.model_dump() for m in r.messages]} for r in filtered.read("kept")]
    train = seal(shop.run, "train", [filtered], {"rows.jsonl": rows, "model/설정.json": b"{}"}, len(rows))
    seal(shop.run, "evaluate", [filtered, train], {"scores.jsonl": [{"model": "trained"}]})
    return shop


def seal(run: Run, stage: str, givers: list[Version], files: Mapping[str, Content], rows: int = 0) -> Version:
    """A version of these files whose name follows from its settings and from others, as `verify` asks."""
    settings = {"seed": 3, stage: {}}
    wanted = flow.fingerprint(stage, settings, [given.manifest.fingerprint for given in givers])
    ledger = [Tally(step="train", came=rows, kept=rows)] if rows else []
    return sealed.seal(run, stage, files=files, of=givers, fingerprint=wanted, settings=settings, ledger=ledger)


def copied(shop: Workshop, folder: Path) -> Run:
    """A copy of a workshop's run, to be damaged."""
    shutil.copytree(shop.run.path, folder)
    return Run(folder)


def edit(version: Version, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest by hand."""
    file = version.path / "manifest.json"
    manifest = orjson.loads(file.read_bytes())
    change(manifest)
    file.write_bytes(pretty(manifest))


def rehash(version: Version) -> None:
    """Have the manifest say of sizes, digests and rows of its files what they are: a forger with patience."""

    def change(manifest: dict[str, Any]) -> None:
        for sort in ("shards", "files"):
            for n, info in enumerate(manifest[sort]):
                file = version.path / info["file"]
                rows = file.read_bytes().count(b"\n") if sort == "shards" else 0
                made = ShardInfo(file=info["file"], rows=rows, bytes=file.stat().st_size, sha256=file_digest(file))
                manifest[sort][n] = made.model_dump()

    edit(version, change)


def rewrite(version: Version, name: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a file and have the manifest agree."""
    file = version.path / name
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    rehash(version)


def problems(run: Run, *, everything: bool = False) -> list[str]:
    """What is wrong with a run, as `where: what`."""
    return told(verify.examine(run, everything=everything))


def told(found: Verified) -> list[str]:
    """Problems as `where: what`."""
    return [f"{p.where}: {p.what}" for p in found.problems]


def first(version: Version, shard: Any = "kept") -> Record:
    """The first row of a shard."""
    return next(version.read(shard))


def forget(shop: Workshop) -> None:
    """The teacher can answer nothing any more."""
    empty_recording(shop.folder / "recording.jsonl")
