"""The card of a trained student: what it was made from, how it was taught, how good it is, and what that asks for."""

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ModelError, UsageError
from pipeline.models import find
from pipeline.run import Run
from pipeline.store import Version
from stages import card_text as write
from stages.card_data import pretty_name
from stages.card_facts import Facts, gather, hub_id, public
from stages.card_seeds import SeedCard, card_of
from stages.formats.export import ROWS
from stages.licences import Chain, Source, chain
from stages.plan import Plan
from stages.tables_curate import number

COSTS = {
    "tokens_per_second": "tokens/s", "first_token_seconds": "seconds to the first token",
    "peak_memory": "peak memory, bytes", "parameters": "parameters", "disk": "disk, bytes",
}  # fmt: skip
LIKELIHOOD = {"perplexity": "perplexity", "bits_per_byte": "bits/byte"}


class Taught(NamedTuple):
    """A finished training and all that it came from."""

    plan: Plan
    version: Version
    base: Source
    tutors: list[Source]
    facts: Facts | None
    """the rows; None where they came from a file"""
    files: list[SeedCard]
    scores: Version | None

    @property
    def name(self) -> str:
        """What the model is called where no repository names it."""
        return f"{self.plan.name}-student"

    def licences(self, repo: str = "") -> Chain:
        """The rows' licences, the base model's, and those of models that taught beside the rows."""
        rows = self.facts.sources() if self.facts else []
        files = [Source("seeds", card.name, card.licence) for card in self.files]
        return chain([*rows, *files, *self.tutors], self.base, repo)


def taught(plan: Plan, run: Run, facts: Facts | None = None) -> Taught:
    """The current training. `facts`: those of its rows, where they have been counted. Raises UsageError without one."""
    version = run.current("train")
    if version is None:
        raise UsageError("train has not been run: there is no model", hint="pipeline train PLAN")
    rows, files = _rows(run, version)
    if rows is not None and (facts is None or facts.version.name != rows.name):
        facts = gather(plan, run, rows)
    told = version.manifest.settings
    tutors = [_model("teacher", name, revision) for name, revision in told.get("taught_by", [])]
    scores = run.current("evaluate")
    read = {given.fingerprint for given in scores.manifest.inputs} if scores else set()
    return Taught(
        plan, version, _model("base model", *told["student"]), tutors, facts if rows else None, files,
        scores if version.manifest.fingerprint in read else None,
    )  # fmt: skip


def _rows(run: Run, version: Version) -> tuple[Version | None, list[SeedCard]]:
    files = [card_of(Path(given.version)) for given in version.manifest.inputs if given.stage == "file"]
    given = next((given for given in version.manifest.inputs if given.stage in ROWS), None)
    found = run.with_fingerprint(given.stage, given.fingerprint) if given else None
    if given and found is None:
        raise UsageError(f"{given.stage} {given.version}, which the model was trained on, is gone")
    return found, files


def _model(what: str, name: str, revision: str) -> Source:
    try:
        licence = find(name, revision).licence
    except ModelError:  # not here any more
        licence = ""
    return Source(what, hub_id(name) or public(name), licence)


def card(found: Taught, repo: str = "", dataset: str = "") -> str:
    """README.md: front matter that huggingface_hub takes, and the text. `dataset`: the rows' own repository."""
    from huggingface_hub import EvalResult, ModelCardData

    licence = found.licences(repo)
    results = [
        EvalResult(task_type="text-generation", dataset_type=dataset or found.plan.name,
                   dataset_name=f"{found.plan.name}, held-out rows", metric_type=metric, metric_value=value)
        for metric, value in _measured(found).items()
    ]  # fmt: skip
    data = ModelCardData(
        eval_results=results or None,
        model_name=(repo.rpartition("/")[2] or found.name) if results else None,
        **front(found, licence, dataset),
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_body(found, licence, repo, dataset)}\n"


def front(found: Taught, licence: Chain, dataset: str) -> dict[str, Any]:
    """The card's metadata, but for the scores."""
    kind = _objective(found)["kind"]
    tags = ["distillation", kind.replace("_", "-")]
    if "privacy" in found.version.manifest.figures:
        tags.append("differential-privacy")
    spoken = [code for code, _ in found.facts.counted.spoken()] if found.facts else []
    base = hub_id(found.base.name)
    return {
        **({"language": spoken} if spoken else {}),
        **write.licence_fields(licence.licence),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": base} if base else {}),
        **({"datasets": [dataset]} if dataset else {}),
        "tags": tags,
    }


def _objective(found: Taught) -> dict[str, Any]:
    told: dict[str, Any] = found.version.manifest.settings["train"]["objective"]
    return told


def _metrics(figures: dict[str, Any]) -> dict[str, str]:
    """What was measured, by name and label."""
    named = {metric["name"]: metric["label"] for metric in figures.get("metrics", [])}
    return named or LIKELIHOOD


def _measured(found: Taught) -> dict[str, float]:
    """The trained model's own scores."""
    figures = found.scores.manifest.figures if found.scores else {}
    trained: dict[str, Any] = next((row for row in figures.get("models", []) if row.get("model") == "trained"), {})
    return {name: round(trained[name], 4) for name in _metrics(figures) if isinstance(trained.get(name), int | float)}


def _body(found: Taught, licence: Chain, repo: str, dataset: str) -> str:
    figures = found.version.manifest.figures
    built = [line for line in licence.asks if "Built with Llama" in line]
    parts = [
        f"# {pretty_name(repo.rpartition('/')[2] or found.name)}",
        found.plan.about,
        "Built with Llama." if built else "",
        f"{figures.get('parameters', 0):,} parameters, taught on {figures.get('rows', 0):,} examples.",
        *_training(found, dataset),
        *_evaluation(found),
        *_privacy(figures),
        "## Licences",
        write.licences(licence),
        "## Known limits",
        write.bullets(_limits(found)),
        "## Versions",
        write.versions([*(found.facts.chain.values() if found.facts else []), found.version]),
        f"Made with {write.made_with(found.version)}.",
    ]
    return "\n\n".join(part for part in parts if part)


def _training(found: Taught, dataset: str) -> list[str]:
    told, figures = found.version.manifest.settings, found.version.manifest.figures
    student = told["train"]["student"]
    teachers = ", ".join(t.model for t in found.facts.counted.teachers if t.model) if found.facts else ""
    made = f", of which it has {write.settings(student['init'])}" if student.get("init") else ""
    rows = {
        "made from": f"{found.base.name} (revision {told['student'][1]}){made}",
        "taught by the words of": teachers,
        "taught beside the rows by": ", ".join(tutor.name for tutor in found.tutors),
        "rows": dataset or ", ".join([*(card.name for card in found.files), *([found.facts.version.name]
                                                                              if found.facts else [])]),
        "objective": _objective(found)["kind"],
        "its settings": write.settings(_objective(found), "kind"),
        "schedule": write.shown(told["train"].get("schedule") or ""),
        "steps": figures.get("steps", ""),
        "loss": f"{figures['first_loss']:.3f} to {figures['last_loss']:.3f}" if "last_loss" in figures else "",
        "teacher's parameters": f"{figures['teacher_parameters']:,}" if "teacher_parameters" in figures else "",
    }  # fmt: skip
    return ["## Training", write.table(("", ""), ((name, value) for name, value in rows.items() if value != ""))]


def _evaluation(found: Taught) -> list[str]:
    if found.scores is None:
        return ["## Evaluation", "None has been run on this version."]
    figures = found.scores.manifest.figures
    models = figures.get("models", [])
    rows = [
        [label, *(_score(model.get(name, ""), model.get("intervals", {}).get(name)) for model in models)]
        for name, label in (_metrics(figures) | COSTS).items()
        if any(name in model for model in models)
    ]
    said = f"On {figures.get('rows', 0):,} held-out answers of the teacher, which the model never saw"
    between = "; in brackets 95 % intervals" if any(model.get("intervals") for model in models) else ""
    return ["## Evaluation", f"{said}{between}:", write.table(["", *(model["model"] for model in models)], rows)]


def _score(value: Any, interval: list[float] | None = None) -> str:
    text = f"{value:,}" if isinstance(value, int) else number(value) if isinstance(value, float) else str(value)
    return f"{text} ({number(interval[0])} to {number(interval[1])})" if interval else text


def _privacy(figures: dict[str, Any]) -> list[str]:
    if "privacy" not in figures:
        return []
    told = figures["privacy"]
    said = (
        f"Trained with differential privacy (DP-SGD); what is promised is promised for one {told.get('unit', 'row')}."
    )
    return ["## Privacy", said, write.table(("", ""), ((name, _score(value)) for name, value in told.items()))]


def _limits(found: Taught) -> list[str]:
    notes = write.notes(found.version)
    if found.scores is None:
        notes = [*notes, "Nothing was measured: nobody knows how good it is."]
    if "privacy" not in found.version.manifest.figures:
        notes = [*notes, "Trained without differential privacy: it may repeat its training rows word by word."]
    return ["A student repeats its teacher's mistakes and adds its own.", *notes]
