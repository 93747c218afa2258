"""export: what people serve, made of a finished train version, each form checked against the student itself.

`RUN/export/<train version>/<form>/` (or a folder of the user's): a form is made under another name and renamed once
it is whole and checked, its figures within as `export.json`. Train versions are only read.
"""

import gc
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from pipeline import console, machine
from pipeline.errors import ModelError, PipelineError, UsageError
from pipeline.models import find, refuse_too_large
from pipeline.run import Run
from pipeline.store import Version, pretty
from stages.export_check import Agreement, Original, Speed, texts
from stages.exporters import FORMS
from stages.exporters.base import CARD, Finished, Form
from stages.exporters.torch_reader import TorchReader, load

FORMAT = 1  # of what lies in a form's folder
REPORT = "export.json"
SCRATCH = ".pipeline-export-"
ALWAYS = ("torch", "transformers")


class Sized(BaseModel):
    """Bytes on disk and speed; no speed where the check does not read it the way it is served."""

    bytes: int
    speed: Speed | None = None


class Report(BaseModel):
    """What a form is and how well it agrees with the student: `export.json`."""

    format: int = FORMAT
    form: str
    plan: str
    student: str
    fingerprint: str
    agreement: Agreement
    size: Sized
    original: Sized
    seconds: float
    packages: dict[str, str]


class Exported(NamedTuple):
    """A form that is there."""

    form: Form
    folder: Path
    report: Report
    made: Literal["now", "before"]


def export(run: Run, version: Version, names: Sequence[str], to: Path | None = None) -> list[Exported]:
    """Make the forms that are not there yet, by name, or the default ones. Raises UsageError, ModelError."""
    student = Finished(version, run.path.name)
    forms = choose(names, student)
    root = to or run.path / "export" / version.name
    with run.writing():
        there = {form.name: found for form in FORMS if (found := _there(form, root, student)) is not None}
        missing = [form for form in forms if form.name not in there]
        if missing:
            _packages(missing)
            refuse_too_large(find(str(student.model)), "float32")
            for info in version.manifest.files:
                version.verify(info)
            there |= {done.form.name: done for done in _make(run, student, missing, root, there)}
        else:
            console.say(f"export: up to date ({root})")
    return [there[form.name] for form in forms]


def choose(names: Sequence[str], student: Finished) -> list[Form]:
    """Forms by name; for none, the default ones, and for `all` all that the student can have. Raises UsageError."""
    known = {form.name: form for form in FORMS}
    if names and list(names) != ["all"]:
        if unknown := [name for name in names if name not in known]:
            raise UsageError(f"--format {unknown[0]}: it takes {', '.join(known)} with commas between, or all")
        for name in names:
            known[name].require(student)
        return [form for form in FORMS if form.name in names]
    chosen = []
    for form in FORMS:
        if form.default or names:
            try:
                form.require(student)
            except UsageError as error:
                console.warn(f"left out, {error}")
                continue
            chosen.append(form)
    return chosen


def _there(form: Form, root: Path, student: Finished) -> Exported | None:
    """A whole form of this very version."""
    folder = root / form.name
    try:
        report = Report.model_validate_json((folder / REPORT).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    made_of = (report.format, report.plan, report.student, report.fingerprint)
    same = made_of == (FORMAT, student.plan, student.version.name, student.version.manifest.fingerprint)
    return Exported(form, folder, report, "before") if same else None


def _packages(forms: Sequence[Form]) -> None:
    wanted = dict.fromkeys((*ALWAYS, *(package for form in forms for package in form.packages)))
    if absent := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise ModelError(f"export needs {', '.join(absent)}", hint="pip install 'pipeline[export]'")


def _make(run: Run, student: Finished, forms: Sequence[Form], root: Path, there: dict[str, Exported]) -> list[Exported]:
    """Make and check forms, one after the other; each is there as soon as it is done."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {root}: {error.strerror}") from error
    for form in forms:
        _free(root / form.name, student)
    for left in root.glob(f"{SCRATCH}*"):  # by an export that was killed
        shutil.rmtree(left, ignore_errors=True)
    done: list[Exported] = []
    log = run.logs / "export.log"
    with tempfile.TemporaryDirectory(dir=root, prefix=SCRATCH) as kept, console.silenced(log):
        import torch

        torch.set_num_threads(machine.cores())
        console.say(f"reading the student (log: {log})")
        original = Original(TorchReader(load(student.model, use_safetensors=True)), texts(student), Path(kept))
        for form in forms:
            whole = {name: found.folder for name, found in there.items()} | {d.form.name: d.folder for d in done}
            done.append(_one(form, student, root, original, whole))
    return done


def _free(folder: Path, student: Finished) -> None:
    """Raise UsageError where the place is taken by something else than an older form of this plan's student."""
    if folder.exists():
        try:
            plan = Report.model_validate_json((folder / REPORT).read_bytes()).plan
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            plan = ""
        if plan != student.plan:
            whose = f"holds the student of {plan}" if plan else "is there and was not made by export"
            raise UsageError(f"{folder} {whose}", hint="name another folder with --to")


def _one(form: Form, student: Finished, root: Path, original: Original, whole: dict[str, Path]) -> Exported:
    started = time.monotonic()
    gc.collect()  # of the model before
    console.say(f"{form.name}: making")
    with tempfile.TemporaryDirectory(dir=root, prefix=SCRATCH) as scratch:
        folder = Path(scratch) / form.name
        folder.mkdir()
        word = form.write(student, folder, whole)
        final = root / form.name
        (folder / CARD).write_text(student.card(word), encoding="utf-8")
        try:
            agreement, speed = original.compare(form.open(student, folder), timed=form.timed)
        except Exception as error:  # whatever the library that reads it thinks of
            why = " ".join(str(error).split())[:300]
            raise ModelError(f"{form.name}: what was written cannot be read: {why}") from error
        report = Report(
            form=form.name,
            plan=student.plan,
            student=student.version.name,
            fingerprint=student.version.manifest.fingerprint,
            agreement=agreement,
            size=Sized(bytes=_bytes(folder), speed=speed),
            original=Sized(bytes=_bytes(student.model), speed=original.speed),
            seconds=round(time.monotonic() - started, 1),
            packages={name: metadata.version(name) for name in (*ALWAYS, *form.packages)},
        )
        (folder / REPORT).write_bytes(pretty(report.model_dump()))
        if final.exists():
            final.rename(Path(scratch) / "before")
        folder.rename(final)
    console.say(f"{form.name}: done in {console.clock(report.seconds)}")
    return Exported(form, final, report, "now")


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def judge(found: Sequence[Exported], least: float) -> None:
    """Raise PipelineError where a form says another likeliest token too often. `least`: share of the tokens."""
    if poor := [e for e in found if e.report.agreement.top1 < least]:
        said = ", ".join(f"{e.form.name} at {e.report.agreement.top1:.1%}" for e in poor)
        raise PipelineError(
            f"the likeliest token is the student's own too seldom (least: {least:.1%}): {said} of the tokens",
            hint="the files are there: look at what they write before you serve them; --agree sets another least share",
        )
