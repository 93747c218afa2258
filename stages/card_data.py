"""The card of a data set: what is in it, how it was made, under which licences, and what it is not good for."""

from collections.abc import Iterable
from typing import Any

from pipeline.run import Run
from pipeline.store import Version
from stages import card_text as write
from stages.calibrated import Calibrated, kept
from stages.card_facts import Facts, public
from stages.card_files import DEFAULT, PREFERENCE, Item, Want, configs, items
from stages.licences import Chain, chain
from stages.tables import warnings

CATEGORIES = {"doc_qa": "question-answering"}  # what else than text generation the rows of a task are for
JUDGES = ("judge", "pairwise", "reward")
HOLDS = {
    "id": "digest of what was asked and which sample it is",
    "task": "the task that asked",
    "split": "`train` or `heldout`",
    "messages": "the conversation: `role` and `content`, as TRL reads it",
    "reasoning": "the thinking behind the last turn, empty where there was none",
    "seeds": "ids of the seeds it grew from",
    "made_by": "engine, model, revision, licence, prompt, sampling, token counts",
    "checks": "what every filter measured: `name`, `value`, `passed`, `reason`, `detail`",
    "meta": "the seed's own fields, as JSON text",
    "by, reason, score, detail": "who dropped the row and why; empty in rows that were kept",
}


def card(facts: Facts, want: Want, repo: str = "") -> str:
    """README.md: front matter that huggingface_hub takes, and the text."""
    from huggingface_hub import DatasetCardData

    found, licence = items(facts, want), chain(facts.sources())
    data = DatasetCardData(**front(facts, found, licence))
    return f"---\n{data.to_yaml()}\n---\n\n{_body(facts, found, licence, repo)}\n"


def front(facts: Facts, found: list[Item], licence: Chain) -> dict[str, Any]:
    """The card's metadata, all of it counted."""
    counted = facts.counted
    spoken = [code for code, _ in counted.spoken()]
    made = any(teacher.model for teacher in counted.teachers)
    brought = any(card for card in facts.seeds if not card.own)
    rows = sum(item.rows for item in found if item.config == DEFAULT)
    return {
        "pretty_name": pretty_name(facts.plan.name),
        **({"language": spoken, "multilinguality": "multilingual" if len(spoken) > 1 else "monolingual"}
           if spoken else {}),
        **write.licence_fields(licence.licence),
        "size_categories": write.size(rows),
        "task_categories": ["text-generation", *sorted({CATEGORIES[t] for t in counted.tasks if t in CATEGORIES})],
        "language_creators": ["machine-generated"] if made else ["found"],
        "source_datasets": ["extended" if brought else "original"],
        "tags": _tags(facts, found),
        "configs": configs(found),
    }  # fmt: skip


def pretty_name(name: str) -> str:
    """`stories-ko` as a title."""
    words = name.replace("-", " ").replace("_", " ")
    return words[:1].upper() + words[1:]


def _tags(facts: Facts, found: list[Item]) -> list[str]:
    counted = facts.counted
    holds = {
        "synthetic": any(teacher.model for teacher in counted.teachers),
        "multi-turn": bool(counted.several_turns),
        "reasoning": bool(counted.reasoning),
        "preference": any(item.config == PREFERENCE for item in found),
    }
    return [*(tag for tag, true in holds.items() if true), *(t.replace("_", "-") for t in sorted(counted.tasks))]


def _body(facts: Facts, found: list[Item], licence: Chain, repo: str) -> str:
    parts = [
        f"# {pretty_name(facts.plan.name)}",
        facts.plan.about,
        *_inside(facts, found, repo),
        *_making(facts),
        *_choosing(facts),
        *_heldout(facts, found),
        "## Licences",
        write.licences(licence),
        "## Known limits",
        write.bullets(_limits(facts)),
        "## Versions",
        write.versions(facts.chain.values()),
        f"Made with {write.made_with(facts.version)}; seed {facts.version.manifest.settings.get('seed', 0)}.",
    ]
    return "\n\n".join(part for part in parts if part)


def _inside(facts: Facts, found: list[Item], repo: str) -> list[str]:
    counted, splits = facts.counted, dict.fromkeys((item.config, item.split) for item in found)
    rows = [(c, s, sum(i.rows for i in found if (i.config, i.split) == (c, s))) for c, s in splits]
    spoken = ", ".join(f"{code} {share:.0%}" for code, share in counted.spoken()) or "could not be told"
    more = [
        f"{counted.several_turns:,} rows have several exchanges" if counted.several_turns else "",
        f"{counted.system:,} have a system turn" if counted.system else "",
        f"{counted.reasoning:,} have their reasoning apart" if counted.reasoning else "",
    ]
    shapes = "; ".join(line for line in more if line)
    return [
        "## What is in it",
        write.table(("config", "split", "rows"), rows),
        f"Languages of the rows for training: {spoken}." + (f" {shapes}." if shapes else ""),
        write.table(("key", "what it holds"), ((f"`{key}`", text) for key, text in HOLDS.items())),
        f'```python\ndatasets.load_dataset("{repo}", split="train")\n```' if repo else "",
    ]


def _making(facts: Facts) -> list[str]:
    counted, made = facts.counted, facts.chain.get("generate")
    teachers = [
        (t.model or "none named", f"`{t.revision}`" if t.revision else "", t.licence or "not said", t.engine, n)
        for t, n in counted.teachers.most_common()
    ]
    seeds = [(c.name, c.licence or ("" if c.own else "not said"), c.source, c.rows, c.note) for c in facts.seeds]
    parts = [
        "## How it was made",
        "The answers were written by:",
        write.table(("model", "revision", "licence", "engine", "rows"), teachers),
    ]
    if seeds:
        parts += ["They grew from:", write.table(("seeds", "licence", "source", "rows", ""), seeds)]
    if made is not None:
        told = made.manifest.settings.get("generate", {})
        named = ", ".join(f"`{prompt}` ({n:,} rows)" for prompt, n in counted.prompts.most_common())
        parts.append(
            write.bullets([
                f"tasks of the rows: {', '.join(f'{task} {n:,}' for task, n in counted.tasks.most_common())}",
                f"prompts: {named or 'the seeds as they are'}",
                f"sampling: {write.settings(told.get('sampling', {}))}; {told.get('samples', 1)} answers a seed",
                f"answers cut by max_tokens: {told.get('truncated', '')}",
                f"tokens of the answers published: {counted.tokens:,}",
            ])
        )  # fmt: skip
    return parts


def _choosing(facts: Facts) -> list[str]:
    parts = ["## What was kept", write.funnel(facts.chain.values())]
    if filtered := facts.chain.get("filter"):
        found = filtered.manifest.settings.get("filter", {}).get("rules", [])
        parts += ["Filters, in order:", write.rules(found), _judged(facts.run, filtered, found)]
    if curated := facts.chain.get("curate"):
        told = curated.manifest.settings.get("curate", {})
        shown = ("select", "embed", "dedup", "keep", "score", "order")
        parts.append(
            write.table(("chosen by", ""), ((name, write.shown(told[name])) for name in shown if name in told))
        )
        if "comparison" in curated.manifest.figures:
            parts.append(write.comparison(curated.manifest.figures["comparison"]))
    return parts


def _judged(run: Run, version: Version, rules: list[dict[str, Any]]) -> str:
    judges = [rule for rule in rules if rule["kind"] in JUDGES]
    if not judges:
        return "No model judged the answers."
    models = {f"{public(m['model'])} ({m.get('revision', '')})" for m in version.manifest.settings.get("models", [])}
    names = {rule.get("name") or rule["kind"] for rule in judges}
    beside = [_beside(one, version) for one in kept(run)[0] if one.rule in names]
    unknown = "How far it agrees with people is not recorded with this version: `pipeline calibrate` measures it."
    by = f"Judged by {', '.join(sorted(models)) or 'a model that the settings above name'}. "
    return by + (f"Beside people's marks:\n\n{write.bullets(beside)}" if beside else unknown)


def _beside(one: Calibrated, version: Version) -> str:
    """A judge's agreement with people, in a line."""
    found = [f"{f.name.replace('_', ' ')} {f.shown}" + (f" ({f.between})" if f.between else "") for f in one.main()]
    other = ", asked with other settings than this version's" if one.changed(version) else ""
    told = ", ".join(found) or "nothing that can be told"
    return f"{one.rule}: {told}, by {one.rows:,} {one.sort} in `{one.gold}` (95 % intervals){other}"


def _heldout(facts: Facts, found: list[Item]) -> list[str]:
    version = facts.heldout()
    rows, share = version.rows("heldout"), 0.0
    if made := facts.chain.get("generate"):
        share = made.manifest.settings.get("generate", {}).get("heldout", 0.0)
    if not rows:
        return ["## Held-out rows", "There are none."]
    here = "They are published here." if any(item.split == "heldout" for item in found) else "They are not published."
    apart = f"A share of {share:.0%} of the seeds was set apart before anything was generated" if share else "Set apart"
    return ["## Held-out rows", f"{apart}; {rows:,} of their rows passed the same filters. {here}"]


def _limits(facts: Facts) -> Iterable[str]:
    counted = facts.counted
    written = sum(n for teacher, n in counted.teachers.items() if teacher.model)
    if written:
        yield f"{written:,} of {counted.rows:,} rows were written by a model: they repeat its mistakes and leanings."
    read = reviewed(facts)
    yield f"People have marked {read:,} rows of this run." if read else "Nobody is known to have read the rows."
    if untold := counted.rows - counted.told:
        yield f"The language of {untold:,} rows could not be told."
    kinds = {
        rule["kind"] for v in facts.chain.values() for rule in v.manifest.settings.get("filter", {}).get("rules", [])
    }
    if "leak" not in kinds:
        yield "Not compared with any evaluation set (no filter `leak`)."
    if "pii" not in kinds:
        yield "Not searched for personal data (no filter `pii`)."
    yield from (note for version in facts.chain.values() for note in write.notes(version))
    yield from warnings(list(facts.chain.values()))


def reviewed(facts: Facts) -> int:
    """Rows of the run that people have marked (`pipeline review`)."""
    total = 0
    for file in (facts.run.path / "review").glob("*-gold.jsonl"):
        with file.open("rb") as lines:
            total += sum(1 for _ in lines)
    return total
