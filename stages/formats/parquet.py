"""`parquet`: whole records as columns."""

from pathlib import Path
from typing import ClassVar

from pipeline.errors import PipelineError
from pipeline.records import Record
from stages.formats.base import Left, Line, OfRecords

COLUMNS = {
    "id": "VARCHAR",
    "task": "VARCHAR",
    "split": "VARCHAR",
    "messages": "STRUCT(role VARCHAR, content VARCHAR)[]",
    "reasoning": "VARCHAR",
    "seeds": "VARCHAR[]",
    "made_by": "STRUCT(engine VARCHAR, model VARCHAR, revision VARCHAR, licence VARCHAR, prompt VARCHAR, "
    "sample BIGINT, seed BIGINT, temperature DOUBLE, top_p DOUBLE, max_tokens BIGINT, finish_reason VARCHAR, "
    "prompt_tokens BIGINT, completion_tokens BIGINT)",
    "checks": 'STRUCT("name" VARCHAR, "value" DOUBLE, passed BOOLEAN, reason VARCHAR, detail VARCHAR)[]',
    "meta": "VARCHAR",
}
LONGEST = 16 << 20  # bytes of a row


class Parquet(OfRecords):
    """Whole records in one Parquet file: every key of a record but those that say why a row was dropped."""

    name: ClassVar[str] = "parquet"
    suffix: ClassVar[str] = ".parquet"

    def line(self, record: Record) -> Line | Left:
        """All of it."""
        return Line(record.model_dump(include=set(COLUMNS)))

    def finish(self, rows: Path) -> Path:
        """The same rows in the same order, column by column."""
        import duckdb

        columns = ", ".join(f"{name}: '{sort}'" for name, sort in COLUMNS.items())
        made = rows.with_name("columns")
        read = f"read_json(?, format = 'newline_delimited', columns = {{{columns}}}, maximum_object_size = {LONGEST})"
        with duckdb.connect(config={"threads": 1}) as db:  # a row group per thread is in memory
            try:
                db.execute(
                    f"copy (from {read}) to '{_quoted(made)}' (format parquet, compression zstd, row_group_size 10000)",
                    [str(rows)],
                )
            except duckdb.Error as error:
                raise PipelineError(f"the rows cannot be written as Parquet: {str(error).splitlines()[0]}") from error
        return made


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
