"""A version is named by what shapes it: every output setting, no speed knob, the same name in any process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import override_value
from pipeline.errors import UsageError
from pipeline.records import digest
from stages import flow
from stages.plan import STAGES, Plan, load
from tests.helpers import WORDS, stub_model, write_plan
from tests.stages.conftest import RUBRIC

ROOT = Path(__file__).resolve().parents[2]
PRINT = """\
from pathlib import Path
from stages import flow
from stages.plan import load
print(flow.expected(load(Path({!r}))))
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan with every stage, on models that only look like models."""
    student, embedder = (str(stub_model(tmp_path / name)) for name in ("student", "embedder"))
    (tmp_path / "banned.txt").write_text("gun\n")
    (tmp_path / "rubric.md").write_text(RUBRIC.format(name="Rate"))
    rules = [
        {"kind": "length", "min_chars": 5},
        {"kind": "words", "banned_file": "banned.txt"},
        {"kind": "judge", "prompt": "rubric.md"},
    ]
    return write_plan(
        tmp_path,
        filter={"rules": rules},
        curate={"keep": 3, "embed": {"model": embedder}},
        train={"student": {"model": student}, "objective": {"kind": "sft"}},
        evaluate={"rows": 5},
    )


def prints(path: Path, *overrides: str) -> dict[str, str]:
    return flow.expected(load(path, overrides))


def changed(path: Path, *overrides: str) -> list[str]:
    before, after = prints(path), prints(path, *overrides)
    return [name for name in STAGES if before[name] != after[name]]


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("seed=4", "generate"),
        ("teacher.licence=MIT", "generate"),
        ("generate.source.count=4", "generate"),
        ("generate.source.axes.prompt.0=Tell me.", "generate"),
        ("generate.task.system=Be brief.", "generate"),
        ("generate.sampling.temperature=0.5", "generate"),
        ("generate.sampling.stop=[END]", "generate"),
        ("generate.samples=2", "generate"),
        ("generate.heldout=0.2", "generate"),
        ("generate.truncated=keep", "generate"),
        ("generate.chat_template_kwargs={enable_thinking: false}", "generate"),
        ("filter.rules.0.min_chars=6", "filter"),
        ("filter.rules.0.name=size", "filter"),
        ("filter.rules.1.banned=[blood]", "filter"),
        ("filter.rules.2.min_score=4", "filter"),
        ("filter.rules=[{kind: exact}]", "filter"),
        ("curate.keep=4", "curate"),
        ("curate.score=length", "curate"),
        ("curate.select={kind: top}", "curate"),
        ("curate.embed.text=both", "curate"),
        ("curate.embed.template='{{ task }}'", "curate"),
        ("curate.embed.backend=openvino", "curate"),
        ("curate.dedup=null", "curate"),
        ("curate.order=rank", "curate"),
        ("curate.select={kind: mixture, by: task, within: {kind: facility}}", "curate"),
        ("curate.replay=[{source: elsewhere}]", "curate"),
        ("train.objective.train_sampling_strategy=sequential", "train"),
        ("train.objective.learning_rate=1e-3", "train"),
        ("train.objective.lora={r: 4}", "train"),
        ("train.objective.config={weight_decay: 0.1}", "train"),
        ("train.min_rows=2", "train"),
        ("evaluate.rows=6", "evaluate"),
        ("evaluate.sampling.max_tokens=9", "evaluate"),
    ],
)
def test_an_output_setting_renames_its_stage_and_all_below(plan: Path, override: str, first: str) -> None:
    """The stage a setting belongs to and everything after it get new names; what is before keeps its own."""
    assert changed(plan, override) == list(STAGES[STAGES.index(first) :])


@pytest.mark.parametrize(
    "override", ["curate.embed.batch_size=8", "train.max_cut=0.5", "about=another line", "name=other"]
)
def test_a_knob_renames_nothing(plan: Path, override: str) -> None:
    """What changes speed, or speaks to people only, keeps every version."""
    assert changed(plan, override) == []


def test_knobs_of_the_teacher_rename_nothing(plan: Path, tmp_path: Path) -> None:
    """vLLM's batch size and engine arguments are speed; its number format is not."""
    teacher = f"teacher={{kind: vllm, model: {stub_model(tmp_path / 'model')}, dtype: float32}}"
    base = prints(plan, teacher)
    assert base == prints(plan, teacher, "teacher.max_num_seqs=3", "teacher.engine={enforce_eager: true}")
    assert base["generate"] != prints(plan, teacher, "teacher.dtype=bfloat16")["generate"]
    assert base["generate"] != prints(plan, teacher, "teacher.engine={quantization: awq}")["generate"]


def test_the_longest_prompt_a_teacher_takes_renames(plan: Path, tmp_path: Path) -> None:
    """`max_model_len` decides which requests are refused, so another bound is another version."""
    teacher = f"teacher={{kind: vllm, model: {stub_model(tmp_path / 'model')}, dtype: float32}}"
    assert prints(plan, teacher)["generate"] != prints(plan, teacher, "teacher.max_model_len=64")["generate"]


def test_defaults_written_out_rename_nothing(plan: Path) -> None:
    """A setting given with its default value is the same plan."""
    assert changed(plan, "generate.samples=1", "curate.select.kind=cluster", "evaluate.samples=8") == []


@pytest.mark.parametrize(
    ("name", "content", "first"), [("banned.txt", "gun\nblood\n", "filter"), ("rubric.md", "", "filter")]
)
def test_files_count_by_their_content(plan: Path, name: str, content: str, first: str) -> None:
    """Another content renames; another place or date of the same content does not."""
    before = prints(plan)
    moved = plan.parent / f"moved-{name}"
    moved.write_bytes((plan.parent / name).read_bytes())
    place = {"banned.txt": "filter.rules.1.banned_file", "rubric.md": "filter.rules.2.prompt"}[name]
    assert prints(plan, f"{place}={moved.name}") == before
    moved.with_stem(f"other-{moved.stem}").write_text(content or RUBRIC.format(name="Judge"))
    assert prints(plan, f"{place}=other-{moved.name}")[first] != before[first]


def test_a_model_counts_by_its_content(plan: Path, tmp_path: Path) -> None:
    """Retrained weights in the same folder are another student."""
    before = prints(plan)
    (tmp_path / "student" / "model.safetensors").write_bytes(b"other weights")
    after: dict[str, str] = yaml.safe_load(
        _python(PRINT.format(str(plan)), "0")
    )  # the content of a folder is read once a process
    assert [n for n in STAGES if before[n] != after[n]] == ["train", "evaluate"]


def _python(code: str, seed: str) -> str:
    env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def test_another_process_agrees(plan: Path) -> None:
    """Names do not depend on the hash seed or the folder of the process."""
    one, other = (yaml.safe_load(_python(PRINT.format(str(plan)), seed)) for seed in ("1", "2"))
    assert one == other == prints(plan)


def test_limit_and_inputs_rename() -> None:
    """A run with --limit, or on other rows, is another version."""
    made = [
        flow.fingerprint("filter", {}, ["a"]), flow.fingerprint("filter", {}, ["a"], 3),
        flow.fingerprint("filter", {}, ["b"]), flow.fingerprint("curate", {}, ["a"]),
        flow.fingerprint("filter", {"x": None}, ["a"]),
    ]  # fmt: skip
    assert len(set(made)) == len(made)
    assert all(len(name) == 64 for name in made)


VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
KEY = st.text("abcdefgh_", min_size=1, max_size=6)


@given(st.lists(KEY, min_size=1, max_size=4), VALUE)
def test_set_puts_any_value_anywhere(place: list[str], value: Any) -> None:
    """A value written as YAML after `--set a.b.c=` stands in the plan as it was."""
    data: dict[str, Any] = {}
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    override_value(data, f"{'.'.join(place)}={text}")
    for part in place:
        data = data[part]
    assert data == value


@given(st.integers(0, 2**32 - 1), st.floats(0, 2, allow_subnormal=False))
def test_set_is_the_same_as_writing_it(tmp_path_factory: pytest.TempPathFactory, seed: int, temperature: float) -> None:
    """An override and the same setting in the file give one plan and one name."""
    folder = tmp_path_factory.getbasetemp() / "same"
    folder.mkdir(exist_ok=True)
    path = write_plan(folder)
    overridden = load(path, (f"seed={seed}", f"generate.sampling.temperature={temperature!r}"))
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["seed"] = seed
    data["generate"]["sampling"] = {"temperature": temperature}
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert load(path) == overridden
    assert flow.expected(load(path)) == flow.expected(overridden)


@given(st.text(max_size=12))
def test_any_override_is_taken_or_refused(text: str) -> None:
    """Whatever is typed after --set, the answer is a plan or a UsageError."""
    data: dict[str, Any] = {"seed": 1, "generate": {"samples": [1, 2]}}
    for override in (text, f"seed={text}", f"generate.samples.{text}=1", f"{text}=1"):
        try:
            override_value(data, override)
        except UsageError as error:
            assert "--set" in str(error)


PLACES = ["seed", "name", "teacher", "teacher.kind", "generate", "generate.source", "generate.source.axes",
          "generate.source.axes.prompt", "generate.task.kind", "generate.sampling.stop", "filter",
          "filter.rules", "filter.rules.0", "filter.rules.0.kind", "curate.select"]  # fmt: skip


@given(st.sampled_from(PLACES), VALUE)
def test_any_value_in_a_plan_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: str, value: Any
) -> None:
    """A plan with anything anywhere loads, or is refused with the file's name and the place."""
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    path = write_plan(folder, filter={"rules": [{"kind": "exact"}]})
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    override_value(data, f"{place}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}")
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    try:
        loaded = load(path)
    except UsageError as error:
        assert path.name in str(error)
    else:
        assert isinstance(loaded, Plan)
        if loaded.generate is None or loaded.teacher is not None:
            assert set(flow.expected(loaded)) == set(loaded.stages())


def test_the_words_of_a_recording_are_in_the_fingerprint(plan: Path) -> None:
    """Answers recorded from another model are other answers."""
    before = prints(plan)
    recording = plan.parent / "recording.jsonl"
    recording.write_bytes(recording.read_bytes().replace(WORDS["revision"].encode() + b'"', b'2"'))
    assert prints(plan)["generate"] != before["generate"]
    assert digest(before) != digest(prints(plan))
