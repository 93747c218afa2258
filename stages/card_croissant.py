"""The description of a data set for machines: Croissant 1.1 (JSON-LD), as mlcommons.org/croissant/1.1 asks for it."""

import re
from typing import Any

from stages.card_facts import Facts
from stages.card_files import Item
from stages.licences import Chain

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
HUB = "https://huggingface.co"
TEXT, NUMBER, REAL, TRUTH = "sc:Text", "sc:Integer", "sc:Float", "sc:Boolean"
RECORD: dict[str, Any] = {
    "id": TEXT, "task": TEXT, "split": TEXT, "messages": [{"role": TEXT, "content": TEXT}], "reasoning": TEXT,
    "seeds": [TEXT],
    "made_by": {"engine": TEXT, "model": TEXT, "revision": TEXT, "licence": TEXT, "prompt": TEXT, "sample": NUMBER,
                "seed": NUMBER, "temperature": REAL, "top_p": REAL, "max_tokens": NUMBER, "finish_reason": TEXT,
                "prompt_tokens": NUMBER, "completion_tokens": NUMBER},
    "checks": [{"name": TEXT, "value": REAL, "passed": TRUTH, "reason": TEXT, "detail": TEXT}],
    "meta": TEXT, "by": TEXT, "reason": TEXT, "score": REAL, "detail": TEXT,
}  # fmt: skip
PAIR: dict[str, Any] = {
    "id": TEXT, "prompt": [{"role": TEXT, "content": TEXT}], "chosen": [{"role": TEXT, "content": TEXT}],
    "rejected": [{"role": TEXT, "content": TEXT}], "chosen_score": REAL, "rejected_score": REAL,
    "chosen_id": TEXT, "rejected_id": TEXT, "split": TEXT,
}  # fmt: skip
_OWN = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty",
    "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5", "parentField",
    "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator", "source",
    "subField", "transform",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    **{name: f"cr:{name}" for name in _OWN},
}


def croissant(facts: Facts, found: list[Item], licence: Chain, repo: str) -> dict[str, Any]:
    """The metadata of the data set `repo` (`owner/name`), a file for every shard and a record set for every split."""
    owner, _, name = repo.rpartition("/")
    made = facts.version.manifest
    teachers = ", ".join(sorted({teacher.model for teacher in facts.counted.teachers if teacher.model}))
    written = f"Written by {teachers}." if teachers else ""
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": " ".join(part for part in (facts.plan.about, written) if part) or name,
        "url": f"{HUB}/datasets/{repo}",
        "license": licence.licence.url or licence.licence.id,
        "creator": {"@type": "sc:Organization", "name": owner, "url": f"{HUB}/{owner}"},
        "datePublished": made.finished[:10],
        "version": f"{int(made.version.partition('-')[0])}.0.0",
        "inLanguage": [code for code, _ in facts.counted.spoken()],
        "keywords": ["synthetic"] if teachers else [],
        "isLiveDataset": False,
        "distribution": [*(_file(item, repo) for item in found), *_sets(found)],
        "recordSet": [_records(part) for part in _parts(found).values()],
    }


def _file(item: Item, repo: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": item.path,
        "name": item.path,
        "contentUrl": f"{HUB}/datasets/{repo}/resolve/main/{item.path}",
        "contentSize": f"{item.info.bytes} B",
        "encodingFormat": "application/jsonlines",
        "sha256": item.info.sha256,
    }


def _parts(found: list[Item]) -> dict[str, list[Item]]:
    """Files that are one split of one config, by the name of their record set."""
    parts: dict[str, list[Item]] = {}
    for item in found:
        parts.setdefault(re.sub(r"\W", "-", f"{item.config}-{item.split}"), []).append(item)
    return parts


def _sets(found: list[Item]) -> list[dict[str, Any]]:
    """A set for every split that has several files; it lies in no archive, but beside this description."""
    return [
        {"@type": "cr:FileSet", "@id": f"{name}-files", "name": f"{name}-files",
         "encodingFormat": "application/jsonlines", "includes": f"{part[0].path.rpartition('-')[0]}-*.jsonl"}
        for name, part in _parts(found).items() if len(part) > 1
    ]  # fmt: skip


def _records(part: list[Item]) -> dict[str, Any]:
    (name,) = _parts(part)
    place = {"fileSet": {"@id": f"{name}-files"}} if len(part) > 1 else {"fileObject": {"@id": part[0].path}}
    shape = PAIR if part[0].config == "preference" else RECORD
    rows = sum(item.rows for item in part)
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"{rows} rows: config {part[0].config}, split {part[0].split}",
        "key": {"@id": f"{name}/id"},
        "field": [_field(f"{name}/{column}", sort, {**place, "extract": {"column": column}})
                  for column, sort in shape.items()],
    }  # fmt: skip


def _field(id: str, sort: Any, source: dict[str, Any], path: str = "") -> dict[str, Any]:
    """A column, or a part of one that `path` leads to."""
    found: dict[str, Any] = {"@type": "cr:Field", "@id": id, "name": id}
    if isinstance(sort, list):
        found |= {"isArray": True, "arrayShape": "-1"}
        sort, path = sort[0], f"{path}[*]"
    if isinstance(sort, dict):
        inner = [_field(f"{id}/{name}", of, source, f"{path}.{name}") for name, of in sort.items()]
        return found | {"subField": inner}
    # a whole column needs no path into it
    way = {"transform": {"jsonPath": path.removeprefix(".")}} if "." in path else {}
    return found | {"dataType": sort, "source": {**source, **way}}
