"""The rows of two versions side by side: which are in one only, which have another fate, other words, other measures.

They are joined by id in DuckDB, which spills to disk what memory does not hold; every file is checked against its
manifest first.
"""

import tempfile
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from pipeline import machine
from pipeline.errors import DataError
from pipeline.store import Version

if TYPE_CHECKING:
    import duckdb

OTHERS = {"train": ("rows.jsonl",), "evaluate": ("outputs.jsonl", "samples.jsonl")}
"""What is compared where a stage writes no shards: the first of these that there is."""
EXAMPLES = 3
SHOWN = 120  # characters of an example
MEMORY = "1GB"  # what more there is goes to disk
COLUMNS = """{id: 'VARCHAR', messages: 'JSON', reasoning: 'VARCHAR', meta: 'VARCHAR',
    "by": 'VARCHAR', reason: 'VARCHAR', detail: 'VARCHAR', checks: 'STRUCT(name VARCHAR, value DOUBLE)[]'}"""


class Compared(BaseModel):
    """Base of what is told of two versions; written as JSON as it is."""

    model_config = ConfigDict(frozen=True)


class Example(Compared):
    """A row of a group, and what became of it in either version ("" where it is not there)."""

    id: str
    text: str
    before: str
    after: str


class Group(Compared):
    """Rows to which the same has happened. `what`: added, removed, fate or content.

    `before` and `after`: kept, held out, or the rule and the reason, as in `judge: low_score`.
    """

    what: str
    before: str
    after: str
    rows: int
    examples: list[Example]


class Remeasured(Compared):
    """A check over the rows that have it in both versions: the mean value, and how many rows have another one."""

    name: str
    rows: int
    before: float
    after: float
    moved: int


class Rows(NamedTuple):
    """How many rows have the same fate and content, groups of the others, and the checks that moved."""

    same: int
    groups: list[Group]
    checks: list[Remeasured]


def rows(before: Version, after: Version) -> Rows:
    """What has become of the rows. Raises DataError where a file is not what its manifest says."""
    import duckdb

    with (
        tempfile.TemporaryDirectory() as spill,
        duckdb.connect(config={"threads": machine.cores(), "temp_directory": spill, "memory_limit": MEMORY}) as db,
    ):
        try:
            for name, version in (("a", before), ("b", after)):
                _table(db, name, version)
            same, groups = _groups(db)
            checks = [] if before.manifest.stage in OTHERS else _checks(db, before, after)
        except duckdb.Error as error:
            raise DataError(f"{before.path} and {after.path} cannot be compared: {error}") from error
    return Rows(same, groups, checks)


def _files(version: Version) -> list[str]:
    """The files whose rows are compared, checked against the manifest."""
    named = OTHERS.get(version.manifest.stage, ())
    there = [info for name in named for info in version.manifest.files if info.file == name]
    infos = there[:1] if named else version.manifest.shards
    for info in infos:
        version.verify(info)
    return [str(version.path / info.file) for info in infos]


NOTHING = "select '' as id, '' as fate, '' as told, 0 as content, '' as text where false"
SHARDS = f"""
    select id, case when "by" <> '' then "by" || ': ' || reason when parse_filename(filename) like 'heldout-%'
            then 'held out' else 'kept' end as fate,
        fate || case when detail <> '' then ' (' || detail || ')' else '' end as told,
        hash(messages::varchar, reasoning, meta) as content, left(messages->-1->>'content', {SHOWN}) as text
    from read_json($files, format = 'newline_delimited', columns = {COLUMNS}, filename = true)
"""
OTHER = f"""
    select coalesce(json->>'id', json->>'prompt', '') as id, 'there' as fate, 'there' as told,
        hash(json::varchar) as content,
        left(coalesce(json->>'$.completion[0].content', json->>'$.chosen[0].content', json->>'$.answers.trained',
            json->>'trained', ''), {SHOWN}) as text
    from read_ndjson_objects($files)
"""


def _table(db: "duckdb.DuckDBPyConnection", name: str, version: Version) -> None:
    """A row per id: its fate, a number that tells contents apart, and how it begins."""
    files = _files(version)
    sql = NOTHING if not files else OTHER if version.manifest.stage in OTHERS else SHARDS
    db.execute(
        f"""create temp table {name} as
            select id, min(fate) as fate, min(told) as told, sum(content::hugeint) as content, min(text) as text
            from ({sql}) group by id""",
        {"files": files} if files else {},
    )


GROUPS = f"""
    select case when a.id is null then 'added' when b.id is null then 'removed' when a.fate <> b.fate then 'fate'
            when a.content <> b.content then 'content' else 'same' end as what,
        coalesce(a.fate, '') as before, coalesce(b.fate, '') as after, count(*) as rows,
        arg_min({{id: coalesce(a.id, b.id), text: coalesce(b.text, a.text), before: coalesce(a.told, ''),
            after: coalesce(b.told, '')}}, coalesce(a.id, b.id), {EXAMPLES})
    from a full join b on a.id = b.id group by all order by rows desc, what, before, after
"""


def _groups(db: "duckdb.DuckDBPyConnection") -> tuple[int, list[Group]]:
    same, groups = 0, []
    for what, before, after, rows, examples in db.execute(GROUPS).fetchall():
        if what == "same":
            same += rows
        else:
            shown = [Example.model_validate(example) for example in examples]
            groups.append(Group(what=what, before=before, after=after, rows=rows, examples=shown))
    order = ("fate", "content", "removed", "added")
    return same, sorted(groups, key=lambda group: order.index(group.what))


CHECKS = f"""
    with one as (select id, unnest(checks, recursive := true)
            from read_json($before, format = 'newline_delimited', columns = {COLUMNS})),
        other as (select id, unnest(checks, recursive := true)
            from read_json($after, format = 'newline_delimited', columns = {COLUMNS}))
    select name, count(*), avg(one.value), avg(other.value), count(*) filter (one.value <> other.value) as moved
    from one join other using (id, name) group by name having moved > 0 order by name
"""


def _checks(db: "duckdb.DuckDBPyConnection", before: Version, after: Version) -> list[Remeasured]:
    files = {"before": _files(before), "after": _files(after)}
    if not all(files.values()):
        return []
    return [
        Remeasured(name=name, rows=rows, before=old, after=new, moved=moved)
        for name, rows, old, new, moved in db.execute(CHECKS, files).fetchall()
    ]
