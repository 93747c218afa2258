"""Pieces that cards are written from: tables, front matter, licences, the funnel, thresholds, figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from rich.text import Text

from pipeline.store import Version
from stages.card_facts import public
from stages.licences import UNKNOWN, Chain, Licence
from stages.tables_curate import NAMES, number, verdict

LONGEST = 60  # characters of one setting in a table
LARGEST = 1000
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; whatever stands in a cell stays in it."""
    lines = [list(columns), ["---"] * len(columns), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """One line without marks of its own."""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {' '.join(line.split()).replace('<', '&lt;')}" for line in lines)


def size(rows: int) -> str:
    """The Hub's size category of so many rows."""
    nth = sum(rows >= LARGEST * 10**n for n in range(len(SIZES) - 1))
    return SIZES[nth]


def licence_fields(licence: Licence) -> dict[str, str]:
    """The front matter's fields for a licence."""
    if licence.id != "other":
        return {"license": licence.id}
    return {"license": licence.id, "license_name": licence.name, "license_link": licence.url}


def licences(chain: Chain) -> str:
    """Where every part comes from, what that asks for, and what does not go together."""
    known = licence_line(chain.licence)
    parts = [
        f"The strictest of what it was made from: {known}. Computed from the names of licences; not legal advice.",
        table(("what", "name", "licence"), ((s.what, s.name, _said(s.licence, one)) for s, one in chain.sources)),
    ]
    if chain.asks:
        parts += ["It asks for:", bullets(chain.asks)]
    if chain.unknown:
        parts += ["Not known:", bullets(chain.unknown)]
    if chain.conflicts:
        parts += ["**Conflicts:**", bullets(chain.conflicts)]
    return "\n\n".join(parts)


def licence_line(licence: Licence) -> str:
    """A licence by name, with its address."""
    return f"[{licence.known_as}]({licence.url})" if licence.url else f"`{licence.known_as}`"


def _said(said: str, licence: Licence) -> str:
    if licence.sort == UNKNOWN:
        return f"{said} (not in the table)" if said.strip() else UNKNOWN
    return licence_line(licence) if said.strip() else f"{licence_line(licence)}, by its name"


def funnel(versions: Iterable[Version]) -> str:
    """Every step: how many came, how many stayed, and why the others went."""
    rows = []
    for version in versions:
        for tally in version.manifest.ledger:
            why = ", ".join(f"{r} {n:,}" for r, n in sorted(tally.dropped.items(), key=lambda i: (-i[1], i[0])))
            rows.append((version.manifest.stage, tally.step, tally.came, tally.kept, why))
    return table(("stage", "step", "came", "kept", "dropped because"), rows)


def settings(of: Mapping[str, Any], *but: str) -> str:
    """Settings in a line: those that say something, long ones cut."""
    said = ((name, value) for name, value in of.items() if name not in but and value not in (None, "", [], {}))
    return ", ".join(f"{name} {public(value) if name == 'model' else _brief(value)}" for name, value in said)


def shown(value: Any) -> str:
    """One setting, those of a component in a line."""
    return settings(value) if isinstance(value, dict) else _brief(value)


def notes(version: Version) -> list[str]:
    """What the version says of itself, without the places where models lie here."""
    found = version.manifest.notes
    for model in version.manifest.settings.get("models", []):
        found = [note.replace(model["model"], public(model["model"])) for note in found]
    return found


def _brief(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"sha256"}:
        return f"(file {value['sha256'][:8]})"
    if isinstance(value, dict) and "model" in value:
        return public(str(value["model"]))
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def rules(found: list[dict[str, Any]]) -> str:
    """Filters with their thresholds."""
    rows = [(rule.get("name") or rule["kind"], rule["kind"], settings(rule, "kind", "name")) for rule in found]
    return table(("rule", "kind", "settings"), rows)


def comparison(found: dict[str, Any]) -> str:
    """A choice beside random ones of the same size."""
    rows = []
    for name, figure in found["figures"].items():
        drawn = figure["random"]
        between = f"{number(drawn['low'])} to {number(drawn['high'])}" if drawn else ""
        word = Text.from_markup(verdict(figure)).plain
        shown = (number(figure["chosen"]), number(drawn["mean"]) if drawn else "", between, number(figure["before"]))
        rows.append((NAMES.get(name, name), *shown, word))
    title = f"{found['chosen']:,} chosen, beside {found['draws']} random choices of as many:"
    return f"{title}\n\n{table(('', 'chosen', 'random', '95 % of them', 'all', ''), rows)}"


def versions(found: Iterable[Version]) -> str:
    """What made it, so that it can be made again."""
    rows = [(v.manifest.stage, v.name, f"`{v.manifest.fingerprint[:16]}`", v.manifest.finished[:10]) for v in found]
    return table(("stage", "version", "fingerprint", "made"), rows)


def made_with(version: Version) -> str:
    """Package versions."""
    packages = version.manifest.environment.get("packages", {})
    return ", ".join(f"{name} {number}" for name, number in packages.items())
