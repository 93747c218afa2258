"""Licences: what each asks of a data set or model that is made from something under it, and what several ask together.

A short table, kept by hand, of licences that models and seeds often have; anything else is unknown and named as such.
It reads the names of licences, not their texts, and is no legal advice.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

UNKNOWN = "unknown"
OF_MODELS = ("teacher", "base model")  # sources that are models
Sort = Literal["free", "attribution", "share_alike", "terms", "unknown", "non_commercial", "no_derivatives", "closed"]
SORTS: tuple[Sort, ...] = (
    "free", "attribution", "share_alike", "terms", "unknown", "non_commercial", "no_derivatives", "closed",
)  # fmt: skip
"""from the laxest to the strictest; `unknown` stands above those that allow everything, on conditions"""


class Licence(NamedTuple):
    """One licence. `id` as the Hub writes it (`other` where it has none), `spdx` where it is on SPDX's list."""

    id: str
    sort: Sort
    url: str = ""
    spdx: str = ""
    name: str = ""
    """where the id is `other`"""
    asks: str = ""
    """what whoever publishes has to do, or may not do"""
    prefix: str = ""
    """how the name of a model begins that was trained on it"""

    @property
    def known_as(self) -> str:
        """Its id, or its name where the Hub has no id for it."""
        return self.name or self.id


class Source(NamedTuple):
    """Something that what is published was made from. `licence`: as its files or the plan say; "" where they do not."""

    what: str
    name: str
    licence: str


class Chain(NamedTuple):
    """What several sources ask together."""

    licence: Licence
    sources: list[tuple[Source, Licence]]
    unknown: list[str]
    asks: list[str]
    conflicts: list[str]


_CREDIT = "name the source"
_SAME = "what is made of it has the same licence"
_NOT_SOLD = "nobody may use it, or what is made of it, commercially"
_AS_IS = "nothing that was made of it may be published"
_BUILT = (
    "the card says `Built with Llama`, its licence goes along, a model trained on it has a name that begins with Llama"
)
_OTHERS = "its output may not be used to improve other large language models than {} itself"
_RIVALS = "its output may not be used to develop models that compete with it"
_USES = "its list of uses that are not allowed goes along with what is made of it"


def _plain(name: str, sort: Sort = "free", asks: str = "") -> Licence:
    return Licence(name.lower(), sort, f"https://spdx.org/licenses/{name}.html", name, asks=asks)


def _cc(kind: str, version: str, sort: Sort, asks: str) -> Licence:
    own = f"CC-{kind.upper()}-{version}"
    return Licence(own.lower(), sort, f"https://creativecommons.org/licenses/{kind}/{version}/", own, asks=asks)


def _llama(version: str, sort: Sort, asks: str) -> Licence:
    own, page = f"llama{version}", f"llama{version.replace('.', '_')}"
    licence = Licence(own, sort, f"https://www.llama.com/{page}/license/", asks=asks, prefix="Llama")
    return licence._replace(id="other", name=own) if version == "4" else licence


def _terms(name: str, url: str) -> Licence:
    return Licence("other", "closed", url, name=name, asks=_RIVALS)


TABLE: tuple[Licence, ...] = (
    *map(_plain, ("CC0-1.0", "Unlicense", "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC")),
    *map(_plain, ("CDLA-Permissive-2.0", "ECL-2.0")),
    _plain("PDDL-1.0")._replace(id="pddl"),
    _plain("ODC-By-1.0", "attribution", _CREDIT)._replace(id="odc-by"),
    *(_cc("by", version, "attribution", _CREDIT) for version in ("2.0", "2.5", "3.0", "4.0")),
    *(_cc("by-sa", version, "share_alike", f"{_CREDIT}; {_SAME}") for version in ("3.0", "4.0")),
    *(_plain(f"{name}-3.0", "share_alike", _SAME) for name in ("GPL", "AGPL", "LGPL")),
    *(_plain(name, "share_alike", _SAME) for name in ("GPL-2.0", "MPL-2.0", "CDLA-Sharing-1.0")),
    _plain("ODbL-1.0", "share_alike", _SAME)._replace(id="odbl"),
    *(_cc("by-nc", version, "non_commercial", f"{_CREDIT}; {_NOT_SOLD}") for version in ("2.0", "3.0", "4.0")),
    *(_cc("by-nc-sa", v, "non_commercial", f"{_CREDIT}; {_NOT_SOLD}; {_SAME}") for v in ("2.0", "3.0", "4.0")),
    _cc("by-nd", "4.0", "no_derivatives", _AS_IS),
    *(_cc("by-nc-nd", version, "no_derivatives", f"{_AS_IS}; {_NOT_SOLD}") for version in ("3.0", "4.0")),
    *(_llama(version, "terms", _BUILT) for version in ("3.1", "3.2", "3.3", "4")),
    _llama("2", "closed", _OTHERS.format("Llama 2"))._replace(url="https://ai.meta.com/llama/license/", prefix=""),
    _llama("3", "closed", _OTHERS.format("Llama 3")),
    Licence("gemma", "terms", "https://ai.google.dev/gemma/terms", asks=_USES),
    *(
        Licence(name, "terms", "https://www.licenses.ai/", asks=_USES)
        for name in ("openrail", "openrail++", "bigscience-bloom-rail-1.0", "bigcode-openrail-m")
    ),
    _terms("openai-terms", "https://openai.com/policies/row-terms-of-use/"),
    _terms("anthropic-terms", "https://www.anthropic.com/legal/commercial-terms"),
    _terms("gemini-terms", "https://ai.google.dev/gemini-api/terms"),
)
KNOWN: dict[str, Licence] = {name: one for one in TABLE for name in {one.name or one.id, one.spdx.lower()} - {""}}
NOTHING = Licence(UNKNOWN, "unknown")
ALIASES = {
    "apache-license-2.0": "apache-2.0", "apache-2": "apache-2.0", "apache-license,-version-2.0": "apache-2.0",
    "mit-license": "mit", "cc0": "cc0-1.0", "llama-2": "llama2", "llama-3": "llama3",
}  # fmt: skip
MODELS: tuple[tuple[str, str], ...] = (
    (r"^(openai/)?(chatgpt|gpt-?3\.5|gpt-?[456]|o[1345](-|$)|text-davinci)", "openai-terms"),
    (r"^(anthropic/)?claude", "anthropic-terms"),
    (r"^(google/|models/)*gemini", "gemini-terms"),
    (r"llama[-_]?2(?![\db])", "llama2"),
    (r"llama[-_]?3[._]1(?!\d)", "llama3.1"),
    (r"llama[-_]?3[._]2(?!\d)", "llama3.2"),
    (r"llama[-_]?3[._]3(?!\d)", "llama3.3"),
    (r"llama[-_]?3(?![\db])", "llama3"),
    (r"llama[-_]?4(?![\db])", "llama4"),
    (r"(^|/)gemma", "gemma"),
)
"""Whose terms a model's name stands for where nothing says its licence; the first that fits."""


def known(text: str) -> Licence:
    """The licence that a text names, `unknown` where the table has none of that name."""
    name = re.sub(r"[\s_]+", "-", re.sub(r"\(.*|\[|\]|['\"]", "", text).strip().lower()).strip("-.,;")
    name = re.sub(r"-(only|or-later)$", "", name)
    return KNOWN.get(ALIASES.get(name, name), NOTHING)


def of_model(model: str, licence: str) -> Licence:
    """A model's licence: as its files say, else by its name."""
    if licence.strip():
        return known(licence)
    name = model.strip().lower()
    return next((KNOWN[terms] for pattern, terms in MODELS if re.search(pattern, name)), NOTHING)


def chain(sources: Iterable[Source], base: Source | None = None, repo: str = "") -> Chain:
    """What the sources ask together; `base`: the model that a student was made from; `repo`: its own name.

    Terms that keep other models from being trained are no conflict for a model that is under them itself.
    """
    every = dict.fromkeys([*sources, *([base] if base else [])])
    found = [(source, licence_of(source)) for source in every]
    licences = [licence for _, licence in found]
    asks = [f"{source.what} {source.name} ({one.known_as}): {one.asks}" for source, one in found if one.asks]
    own = licence_of(base) if base else NOTHING
    conflicts = [text for source, one in found if (text := _alone(source, one, own))] + _together(licences)
    if base and repo:
        conflicts += [
            f"{source.what} {source.name} ({one.known_as}) asks for a name that begins with {one.prefix}, not {repo}"
            for source, one in found
            if not repo.rpartition("/")[2].casefold().startswith(one.prefix.casefold())
        ]
    return Chain(
        max(licences, key=lambda one: SORTS.index(one.sort), default=NOTHING),
        found,
        [_unknown(source) for source, one in found if one.sort == "unknown"],
        list(dict.fromkeys(asks)),
        list(dict.fromkeys(conflicts)),
    )


def licence_of(source: Source) -> Licence:
    """As said; for a model that says nothing, by its name."""
    return of_model(source.name, source.licence) if source.what in OF_MODELS else known(source.licence)


def _unknown(source: Source) -> str:
    said = f"{source.licence!r} is not in the table" if source.licence.strip() else "no licence is said"
    return f"{source.what} {source.name}: {said}"


def _alone(source: Source, licence: Licence, own: Licence) -> str:
    """What one source does not allow by itself."""
    forbids = licence.sort in ("non_commercial", "no_derivatives") or (licence.sort == "closed" and licence != own)
    return f"{source.what} {source.name} is under {licence.known_as}: {licence.asks}" if forbids else ""


def _together(licences: list[Licence]) -> list[str]:
    """Share-alike beside another licence that asks for something of its own: neither can be kept whole."""
    same = sorted({one.known_as for one in licences if one.sort == "share_alike" or "-sa-" in one.id})
    own_terms = {one.known_as for one in licences if one.sort in ("terms", "non_commercial", "closed")}
    if len(same) > 1:
        return [f"{' and '.join(same)} each ask that what is made of them has that very licence"]
    if same and (others := sorted(own_terms - set(same))):
        return [f"{same[0]} asks that what is made of it has the same licence, which {' and '.join(others)} rules out"]
    return []
