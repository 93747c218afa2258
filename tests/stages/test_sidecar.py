"""The teacher's log-probabilities: packed in the memo, written beside the shards."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.engines.trace import FLOOR, Trace
from pipeline.errors import UsageError
from stages import sidecar
from tests.stages.conftest import Workshop, number
from tests.stages.scripted import Shuffled

safetensors = pytest.importorskip("safetensors")
np = pytest.importorskip("numpy")

LOGPROB = st.floats(-60000, 0, width=16)
STEPS = st.lists(st.lists(st.tuples(st.integers(0, 2**31 - 1), LOGPROB), min_size=1, max_size=5), max_size=6)


@given(STEPS, st.integers(1, 4))
def test_packing_loses_nothing(top: list[list[tuple[int, float]]], k: int) -> None:
    """Tokens and log-probabilities come back, the k likeliest first, what is missing filled with the impossible."""
    tokens = [step[0][0] for step in top]
    chosen = [step[0][1] for step in top]
    trace = Trace.model_validate_json(Trace.pack(k, tokens, chosen, top).model_dump_json())
    ids, logprobs, top_ids, top_logprobs = trace.arrays()
    assert ids.tolist() == tokens and logprobs.tolist() == chosen
    for step, found_ids, found in zip(top, top_ids.reshape(-1, k), top_logprobs.reshape(-1, k), strict=True):
        ranked = sorted((logprob for _, logprob in step), reverse=True)[:k]
        assert found.tolist() == ranked + [FLOOR] * (k - len(ranked))
        assert set(zip(found_ids.tolist(), found.tolist(), strict=True)) <= {*step, (-1, FLOOR)}


def test_the_impossible_is_a_number() -> None:
    """Minus infinity and what lies under the lowest float16 are kept as that."""
    trace = Trace.pack(2, [1], [-math.inf], [[(1, -math.inf), (2, -1e9)]])
    assert [array.tolist() for array in trace.arrays()[1:]] == [[FLOOR], [2, 1], [FLOOR, FLOOR]]


def traced(request: Request) -> Completion:
    """Two tokens more than the number asked about, three alternatives each."""
    n = number(request)
    steps = [[(10 * n + t + i, -0.5 * (i + 1)) for i in range(request.top_logprobs)] for t in range(n + 2)]
    trace = Trace.pack(request.top_logprobs, [s[0][0] for s in steps], [-0.5] * len(steps), steps)
    text = "" if n == 6 else f"The number {n}."
    return Completion(text=text, finish_reason="stop", completion_tokens=n + 2, trace=trace)


def test_kept_rows_have_their_tokens_beside_them(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row that was not dropped is in a sidecar by its id, in files of bounded size, from the memo too."""
    monkeypatch.setattr(Replay, "open", lambda self, log=None: Shuffled(traced, 3, 0))
    monkeypatch.setattr(sidecar, "FULL", 200)
    settings = ("generate.sampling.top_logprobs=3",)
    first, second = (
        workshop.make("generate", overrides=settings),
        workshop.make("generate", overrides=settings, again=True),
    )
    assert second[0].manifest.usage["remembered"] == 10 and "asked" not in second[0].manifest.usage
    for version in (first[0], second[0]):
        rows = {r.id: number_of(r.prompt) for r in [*version.read("kept"), *version.read("heldout")]}
        found = read(version.path)
        assert found.keys() == rows.keys() and len(list(version.path.glob("logprobs-*"))) > 1
        for record_id, n in rows.items():
            tokens, logprobs, top, top_logprobs = found[record_id]
            assert tokens.tolist() == [10 * n + t for t in range(n + 2)]
            assert logprobs.tolist() == [-0.5] * (n + 2)
            assert top.shape == top_logprobs.shape == (n + 2, 3)
        assert {f.file for f in version.manifest.files} == {f.name for f in version.path.glob("logprobs-*")}


def number_of(prompt: str) -> int:
    """The number a prompt asks about."""
    return int(prompt.split("number ")[1].rstrip("."))


def read(folder: Path) -> dict[str, tuple[Any, ...]]:
    """The sidecars of a version as docs/records.md says."""
    import json

    from safetensors import safe_open

    found = {}
    for file in sorted(folder.glob("logprobs-*.safetensors")):
        with safe_open(file, "np") as tensors:
            ids = json.loads(tensors.metadata()["ids"])
            offsets = tensors.get_tensor("offsets")
            names = ("tokens", "logprobs", "top_tokens", "top_logprobs")
            arrays = [tensors.get_tensor(name) for name in names]
        for n, record_id in enumerate(ids):
            found[record_id] = tuple(array[offsets[n] : offsets[n + 1]] for array in arrays)
    return found


def test_without_the_setting_there_is_no_sidecar(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored that was not asked for."""
    monkeypatch.setattr(
        Replay, "open", lambda self, log=None: Shuffled(lambda r: Completion(text="x", finish_reason="stop"), 3, 0)
    )
    (version,) = workshop.make("generate")
    assert not list(version.path.glob("logprobs-*"))


def test_a_server_without_token_ids_is_refused_before_it_is_asked(workshop: Workshop) -> None:
    """Log-probabilities that cannot be had are a mistake in the plan, not a column of failures."""
    teacher = "teacher={kind: openai, model: x, base_url: 'http://127.0.0.1:9/v1'}"
    with pytest.raises(UsageError, match="gives no token ids"):
        workshop.make("generate", overrides=(teacher, "generate.sampling.top_logprobs=2"))
