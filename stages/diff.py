"""diff: what two versions of a stage differ in: settings, rows and their fates, measures, counts and figures.

Rows by `stages/diff_rows.py`; everything else stands in the manifests.
"""

import math
from typing import Any

from pipeline.errors import UsageError
from pipeline.store import Version
from stages import flow
from stages.diff_rows import Compared, Group, Remeasured, rows


class Moved(Compared):
    """A number in both versions; None where one has it not."""

    name: str
    before: float | None
    after: float | None


class Step(Compared):
    """A step of the ledger, and its drop reasons that have moved."""

    step: str
    came: Moved
    kept: Moved
    dropped: list[Moved]


class Difference(Compared):
    """Two versions of one stage. `same`: rows with the same fate and content."""

    stage: str
    before: str
    after: str
    settings: list[str]
    inputs: list[str]
    counts: list[Moved]
    ledger: list[Step]
    same: int
    groups: list[Group]
    checks: list[Remeasured]
    figures: list[Moved]


def diff(before: Version, after: Version) -> Difference:
    """What has changed. Raises UsageError for versions of two stages."""
    old, new = before.manifest, after.manifest
    if old.stage != new.stage:
        raise UsageError(f"{old.stage} {before.name} and {new.stage} {after.name} are of two stages", hint=ONE_STAGE)
    same, groups, checks = rows(before, after)
    return Difference(
        stage=old.stage, before=before.name, after=after.name,
        settings=flow.changes(*aligned(old.settings, new.settings)), inputs=_inputs(before, after),
        counts=_moved(_counts(before), _counts(after)), ledger=_ledger(before, after), same=same, groups=groups,
        checks=checks,
        figures=_moved(_figures(before), _figures(after)) + _moved(_usage(before), _usage(after)),
    )  # fmt: skip


ONE_STAGE = "compare two of the same: `pipeline diff PLAN filter/0001 filter/0002`"


def aligned(old: Any, new: Any) -> tuple[Any, Any]:
    """Both settings with lists of components by name wherever the lists name others, so that like meets like."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = {key: aligned(old[key], new[key]) for key in old if key in new}
        return {k: pairs[k][0] if k in pairs else v for k, v in old.items()}, {
            k: pairs[k][1] if k in pairs else v for k, v in new.items()
        }
    if isinstance(old, list) and isinstance(new, list):
        names = _names(old), _names(new)
        if all(names) and names[0] != names[1]:
            return _by_name(names[0], old), _by_name(names[1], new)
    return old, new


def _names(components: list[Any]) -> list[str]:
    """The names of a list of components; none where it is no such list, or two share a name."""
    if not all(isinstance(one, dict) and "kind" in one for one in components):
        return []
    names = [str(one.get("name") or one["kind"]) for one in components]
    return names if len(set(names)) == len(names) else []


def _by_name(names: list[str], components: list[Any]) -> dict[str, Any]:
    return {"order": ", ".join(names)} | dict(zip(names, components, strict=True))


def _inputs(before: Version, after: Version) -> list[str]:
    old, new = ({i.stage: i for i in v.manifest.inputs} for v in (before, after))
    return [
        f"{stage}: {old[stage].version if stage in old else 'none'} -> {new[stage].version if stage in new else 'none'}"
        for stage in dict.fromkeys([*old, *new])
        if (old[stage].fingerprint if stage in old else "") != (new[stage].fingerprint if stage in new else "")
    ]


def _counts(version: Version) -> dict[str, float]:
    counts: dict[str, float] = {**version.manifest.counts}
    passed = counts.get("kept", 0) + counts.get("heldout", 0)
    if version.manifest.stage == "filter":
        counts["pass_rate"] = passed / max(1, passed + counts.get("dropped", 0))
    return counts


def _ledger(before: Version, after: Version) -> list[Step]:
    old, new = ({tally.step: tally for tally in v.manifest.ledger} for v in (before, after))
    found = []
    for step in dict.fromkeys([*old, *new]):
        a, b = old.get(step), new.get(step)
        if a != b:
            came = Moved(name="came", before=a and a.came, after=b and b.came)
            kept = Moved(name="kept", before=a and a.kept, after=b and b.kept)
            dropped = _moved(dict(a.dropped) if a else {}, dict(b.dropped) if b else {})
            found.append(Step(step=step, came=came, kept=kept, dropped=dropped))
    return found


def _figures(version: Version) -> dict[str, float]:
    return dict(_flat(version.manifest.figures))


def _usage(version: Version) -> dict[str, float]:
    return {f"usage.{name}": value for name, value in version.manifest.usage.items()}


def _flat(value: Any, place: str = "") -> list[tuple[str, float]]:
    """Every number at its place; of lists those whose items say which `model` or `name` they are of."""
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = {str(v.get("model") or v.get("name")): v for v in value if isinstance(v, dict)}.items()
        inner = {name: v for name, v in inner if name != "None"}.items()
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return [(place, float(value))] if number else []
    return [found for key, v in inner for found in _flat(v, f"{place}.{key}" if place else str(key))]


def _moved(before: dict[str, Any], after: dict[str, Any]) -> list[Moved]:
    """The numbers that differ, in their order."""
    names = dict.fromkeys([*before, *after])
    pairs = [Moved(name=name, before=before.get(name), after=after.get(name)) for name in names]
    return [one for one in pairs if not _equal(one.before, one.after)]


def _equal(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))
