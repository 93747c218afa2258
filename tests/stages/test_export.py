"""export: every form says what the student says, is whole or not there, and is made once."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ModelError, PipelineError, UsageError
from pipeline.models import find
from pipeline.run import Run
from pipeline.store import Version
from stages import export, tables_export
from stages.export import Exported
from stages.exporters import FORMS
from stages.exporters.base import Finished
from stages.exporters.safetensors import Safetensors
from stages.student import load
from tests.helpers import write_plan
from tests.stages import students

pytestmark = pytest.mark.slow
NAMES = [form.name for form in FORMS]


def tune(run: Run, base: Path, layers: list[int] | None = None) -> Version:
    """A version trained with adapters that say something: on the base by name, or on some of its layers."""
    import torch
    from peft import LoraConfig, get_peft_model

    students.model(num_hidden_layers=4).save_pretrained(base)
    students.tokenizer().save_pretrained(base)
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    student = get_peft_model(load(str(base), layers=layers)[0], config)
    told = {"init": {"layers": layers}} if layers else {"model": str(base)}
    settings = {"train": {"student": told}, "student": [str(base), find(str(base)).revision]}
    return students.finish(run, student, students.tokenizer(), settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Version, dict[str, Exported]]]:
    """A student with adapters in every form."""
    folder = tmp_path_factory.mktemp("export")
    run = Run(folder / "runs/tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        version = tune(run, folder / "base")
        yield run, version, {e.form.name: e for e in export.export(run, version, ["all"])}


@pytest.mark.parametrize(
    ("name", "largest", "top1"),
    [("safetensors", 0, 1), ("onnx", 1e-3, 1), ("onnx_int8", 4, 0.75), ("gguf", 0.2, 0.97), ("gguf_q8_0", 3, 0.75),
     ("adapter", 1e-3, 1)],
)  # fmt: skip
def test_every_form_says_what_the_student_says(made: Any, name: str, largest: float, top1: float) -> None:
    """Logits on the rows agree, closely where nothing was rounded."""
    agreement = made[2][name].report.agreement
    assert agreement.largest <= largest
    assert agreement.top1 >= top1
    assert -1e-9 <= agreement.kl < 0.1
    assert agreement.tokens > 50


def test_every_form_is_there(made: Any) -> None:
    """All of them, each with a card that names the licence and says how to use it; nothing is left beside them."""
    run, version, forms = made
    assert list(forms) == NAMES
    root = run.path / "export" / version.name
    assert {p.name for p in root.iterdir()} == set(NAMES)
    for form in forms.values():
        card = (form.folder / "README.md").read_text()
        assert "license: apache-2.0" in card and "base_model: tiny" in card and "## This form" in card
        assert json.loads((form.folder / "export.json").read_text())["fingerprint"] == version.manifest.fingerprint
    assert {"model.onnx", "config.json", "tokenizer.json", "chat_template.jinja"} <= students.files(root / "onnx")


def test_speed_is_of_what_is_served(made: Any) -> None:
    """A GGUF is read back by another library than it is served by: its time says nothing."""
    timed = {name for name, e in made[2].items() if e.report.size.speed is not None}
    assert timed == {"safetensors", "onnx", "onnx_int8", "adapter"}


def test_the_version_is_left_alone(made: Any) -> None:
    """Every file of the train version is the one that was sealed, and there is none more."""
    _, version, _ = made
    for info in version.manifest.files:
        version.verify(info)
    assert students.files(version.path) == {info.file for info in version.manifest.files} | {"manifest.json"}


def test_a_form_is_made_once(made: Any) -> None:
    """Asked again it is what it was; a new version has forms of its own."""
    run, version, forms = made
    report = forms["safetensors"].folder / "export.json"
    before = report.stat().st_mtime_ns
    (again,) = export.export(run, version, ["safetensors"])
    assert (again.made, report.stat().st_mtime_ns) == ("before", before)
    newer = students.finish(run, students.model(), students.tokenizer())
    (other,) = export.export(run, newer, ["safetensors"])
    assert other.made == "now" and other.folder.parent.name == newer.name


def test_the_table_holds_every_form(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for the student and one a form; what agrees too little is marked."""
    from pipeline import console

    console.print_out(tables_export.forms(list(made[2].values()), 0.999999))
    said = capsys.readouterr().out
    assert all(f"\n{name}" in said for name in ["the student", *NAMES])
    (line,) = [line for line in said.splitlines() if line.startswith("onnx_int8")]
    assert "% !!" in line


def test_poor_agreement_is_an_error(made: Any) -> None:
    """The form and its share are named; what agrees well is not."""
    found = list(made[2].values())
    export.judge(found, 0.5)
    with pytest.raises(PipelineError, match=r"least: 100\.0%\): (onnx_int8|gguf)") as error:
        export.judge(found, 1.0)
    assert "safetensors at" not in str(error.value)


def test_adapters_say_how_they_are_served(made: Any) -> None:
    """The card has the server's command with the base they belong to."""
    _, version, forms = made
    card = (forms["adapter"].folder / "README.md").read_text()
    base = version.manifest.settings["student"][0]
    assert f"vllm serve {base} --enable-lora --lora-modules tiny-student=." in card
    assert "python -m vllm.entrypoints.openai.api_server --model" in card


def test_a_base_made_of_layers_is_exported_too(tmp_path: Path) -> None:
    """Adapters on the teacher's layers bring those layers along, and together they are the student."""
    run = Run(tmp_path / "runs/tiny")
    version = tune(run, tmp_path / "base", layers=[0, 3])
    (form,) = export.export(run, version, ["adapter"])
    assert (form.folder / "base/model.safetensors").is_file()
    assert json.loads((form.folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert form.report.agreement.largest < 1e-3


def test_no_adapters_no_adapter_form(tmp_path: Path) -> None:
    """Full fine-tuning leaves none, and the message says what would."""
    run = Run(tmp_path / "runs/tiny")
    version = students.finish(run, students.model(), students.tokenizer())
    with pytest.raises(UsageError, match=r"without lora.*\n.*train\.objective\.lora"):
        export.export(run, version, ["adapter"])


def test_another_base_is_refused(tmp_path: Path) -> None:
    """Adapters belong to the weights they were trained on."""
    run = Run(tmp_path / "runs/tiny")
    version = tune(run, tmp_path / "base")
    version.manifest.settings["student"][1] = "0" * 16
    with pytest.raises(UsageError, match="no longer the model"):
        export.choose(["adapter"], Finished(version, "tiny"))


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Run, Version]:
    """A student without adapters."""
    run = Run(tmp_path / "runs/tiny")
    return run, students.finish(run, students.model(), students.tokenizer())


def test_an_unknown_form_is_refused(plain: tuple[Run, Version]) -> None:
    """With the names there are."""
    with pytest.raises(UsageError, match="--format onxx: it takes safetensors, onnx"):
        export.export(*plain, ["onxx"])


def test_a_form_that_fails_leaves_nothing(plain: tuple[Run, Version], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a half of it nor anything of what the work needed; what a killed export left goes too."""
    run, version = plain
    root = run.path / "export" / version.name
    (root / f"{export.SCRATCH}old/onnx").mkdir(parents=True)

    def fails(self: Safetensors, student: Finished, folder: Path, whole: Any) -> str:
        (folder / "half").write_text("x")
        raise ModelError("no room")

    monkeypatch.setattr(Safetensors, "write", fails)
    with pytest.raises(ModelError, match="no room"):
        export.export(run, version, ["safetensors"])
    assert list(root.iterdir()) == []


def test_what_cannot_be_read_back_is_an_error(plain: tuple[Run, Version], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that its library refuses does not pass as a form."""

    def broken(self: Safetensors, student: Finished, folder: Path, whole: Any) -> str:
        (folder / "config.json").write_text("{}")
        return "broken"

    monkeypatch.setattr(Safetensors, "write", broken)
    with pytest.raises(ModelError, match="safetensors: what was written cannot be read"):
        export.export(*plain, ["safetensors"])
    assert not (plain[0].path / "export" / plain[1].name / "safetensors").exists()


def test_a_changed_version_is_not_exported(plain: tuple[Run, Version]) -> None:
    """Weights that are not the sealed ones are named."""
    weights = plain[1].path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\1")
    with pytest.raises(PipelineError, match="does not match its manifest"):
        export.export(*plain, ["safetensors"])


def test_a_folder_of_ones_own(plain: tuple[Run, Version], tmp_path: Path) -> None:
    """A newer version takes the place of an older; another plan's student and foreign files stay."""
    run, version = plain
    to = tmp_path / "ship"
    (form,) = export.export(run, version, ["safetensors"], to)
    assert form.folder == to / "safetensors"
    newer = students.finish(run, students.model(), students.tokenizer())
    (form,) = export.export(run, newer, ["safetensors"], to)
    assert (form.made, form.report.student) == ("now", newer.name)
    other = Run(tmp_path / "runs/other")
    with pytest.raises(UsageError, match="holds the student of tiny"):
        export.export(other, students.finish(other, students.model(), students.tokenizer()), ["safetensors"], to)
    (to / "gguf").mkdir()
    with pytest.raises(UsageError, match="was not made by export"):
        export.export(run, newer, ["gguf"], to)


def test_missing_packages_are_one_message(plain: tuple[Run, Version], monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is absent, and the extra that brings it."""
    there = importlib.util.find_spec
    gone = ("onnx", "onnxscript", "gguf")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else there(name))
    with pytest.raises(
        ModelError, match=r"export needs onnx, onnxscript, gguf\nhint: pip install 'pipeline\[export\]'"
    ):
        export.export(*plain, [])


def test_the_command(plain: tuple[Run, Version], tmp_path: Path) -> None:
    """A table of talk, or JSON; 1 where a form agrees too little, 2 where there is nothing to export."""
    plan = write_plan(tmp_path)

    def pipeline(*words: str, runs: str = "runs") -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PIPELINE_RUNS": str(tmp_path / runs)}
        command = [sys.executable, "-m", "pipeline", "export", str(plan), "--format", "gguf", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)

    done = pipeline("--json", "-q", "--agree", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    (form,) = json.loads(done.stdout)
    assert (form["form"], form["made"], Path(form["folder"]).name) == ("gguf", "now", "gguf")
    again = pipeline("--input", "1", "--agree", "0.5")
    assert "export: up to date" in again.stderr and "Forms of 0001-" in again.stdout
    report = tmp_path / "runs/tiny/export" / plain[1].name / "gguf/export.json"
    changed = json.loads(report.read_text())
    changed["agreement"]["top1"] = 0.6
    report.write_text(json.dumps(changed))
    poor = pipeline("-q")
    assert poor.returncode == 1 and "gguf at 60.0%" in poor.stderr
    none = pipeline(runs="elsewhere")
    assert none.returncode == 2 and "train has not been run" in none.stderr
