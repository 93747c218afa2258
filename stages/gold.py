"""Gold: what people said of answers, from JSONL or CSV. Scores, keep or not, or which of two answers is better.

A row names an answer by the `id` of a record of this run, or brings it (`prompt` and `answer`, or any shape that
`intake` knows), with a `score` or with `keep`: yes or no. Or it brings `chosen` and `rejected`, as TRL writes them.
What a spreadsheet does to a file is undone: a BOM, semicolons for commas, a quote before what looks like a formula.
"""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from filters.text import normal
from pipeline.errors import UsageError
from pipeline.records import Check, Message, Record, digest
from pipeline.run import Run
from stages.intake import to_record
from stages.sources.jsonl import read_rows

FORMULA = tuple("=+-@\t\r＝＋－＠'")  # a cell that begins so is a formula to some spreadsheet, or was quoted by us
YES, NO = {"yes", "y", "true", "1", "keep", "예", "네"}, {"no", "n", "false", "0", "drop", "아니오", "아니요"}
ANSWERS = ("answer", "messages", "completion", "output", "conversations", "chosen")
SAME = 1000  # characters by which a row's answer is known again
STAGES = ("filter", "generate")  # where an id is looked up


class Mark(NamedTuple):
    """What a person said of one answer; `where` is the line."""

    record: Record
    score: float | None
    keep: bool | None
    where: str

    @property
    def value(self) -> float:
        """The score, or 1 and 0 for yes and no."""
        return self.score if self.score is not None else float(bool(self.keep))


class Preference(NamedTuple):
    """Two answers to one prompt."""

    chosen: Record
    rejected: Record


class Gold(NamedTuple):
    """What was read, and how many rows nobody had marked."""

    marks: list[Mark]
    preferences: list[Preference]
    unmarked: int


def read(path: Path, run: Run) -> Gold:
    """Raises UsageError that names the line of what is wrong."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    rows = list(read_csv(path) if path.suffix.lower() in (".csv", ".tsv") else read_rows(path))
    if not rows:
        raise UsageError(f"{path} has no rows")
    known = _lookup(run, {str(row["id"]) for row, _ in rows if "id" in row})
    marks: list[Mark] = []
    preferences: list[Preference] = []
    unmarked = 0
    for row, where in rows:
        if _given(row.get("chosen")) and _given(row.get("rejected")):
            preferences.append(_preference(row, where))
            continue
        score, keep = _score(row.get("score"), where), _keep(row.get("keep"), where)
        if score is None and keep is None:
            unmarked += 1
            continue
        marks.append(Mark(_answer(row, where, known), score, keep, where))
    if not marks and not preferences:
        raise UsageError(f"{path} holds no mark: fill in `score` or `keep`, or give `chosen` and `rejected`")
    if marks and preferences:
        raise UsageError(f"{path} holds scores and preferences: give each a file of its own")
    return Gold(marks, preferences, unmarked)


def read_csv(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of a CSV file with a header, with their `file:line`; empty cells are left out."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8", hint="save it from the spreadsheet as `CSV UTF-8`") from error
    head = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    csv.field_size_limit(1 << 27)
    try:
        for row in reader:
            if None in row:
                raise UsageError(f"{path}:{reader.line_num} has more cells than the header")
            yield {name: _bare(cell) for name, cell in row.items() if cell}, f"{path}:{reader.line_num}"
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num} is not CSV: {error}") from error


def cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula; `_bare` gives it back."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _bare(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _given(value: Any) -> bool:
    return value is not None and value != "" and value != []


def _brings_answer(row: dict[str, Any]) -> bool:
    return any(_given(row.get(key)) for key in ANSWERS)


def _score(value: Any, where: str) -> float | None:
    if not _given(value):
        return None
    try:
        score = float(str(value).strip().replace(",", "."))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UsageError(f"{where}: the score {str(value)[:40]!r} is no number")
    return score


def _keep(value: Any, where: str) -> bool | None:
    if not _given(value):
        return None
    word = str(value).strip().casefold()
    if word not in YES | NO:
        raise UsageError(f"{where}: keep is {str(value)[:40]!r}; it takes yes or no")
    return word in YES


def _answer(row: dict[str, Any], where: str, known: dict[str, Record]) -> Record:
    """The record that was marked: of this run by its id, else what the row brings."""
    found = known.get(str(row.get("id")))
    if not _brings_answer(row):
        if found is not None:
            return found
        raise UsageError(
            f"{where}: no record of this run has the id {row['id']}"
            if "id" in row
            else f"{where} names no answer: it needs `id`, or `prompt` and `answer`"
        )
    if _given(row.get("answer")):
        made = _record(_turns(_question(row), "user"), _turns(row["answer"], "assistant"), row, where)
    else:
        made = to_record({k: v for k, v in row.items() if k not in ("score", "keep")}, where)
    # ids of a foreign file may be those of other rows here; and a spreadsheet may have cut a long answer
    same = found is not None and normal(found.answer)[:SAME] == normal(made.answer)[:SAME]
    return found if found is not None and same else made


def _preference(row: dict[str, Any], where: str) -> Preference:
    """Both answers as records of one prompt; without a `prompt` it is what both conversations begin with."""
    chosen, rejected, asked = row["chosen"], row["rejected"], _question(row)
    if not _given(asked) and isinstance(chosen, list) and isinstance(rejected, list):
        asked, chosen, rejected = chosen[:-1], chosen[-1:], rejected[-1:]
    prompt = _turns(asked, "user")
    if not prompt:
        raise UsageError(f"{where} has `chosen` and `rejected` but no `prompt`")
    return Preference(*(_record(prompt, _turns(said, "assistant"), row, where) for said in (chosen, rejected)))


def _question(row: dict[str, Any]) -> Any:
    if _given(row.get("prompt")):
        return row["prompt"]
    return "\n\n".join(str(row[key]) for key in ("instruction", "input") if _given(row.get(key)))


def _turns(value: Any, role: str) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return value
    return [{"role": role, "content": str(value)}] if _given(value) else []


def _record(prompt: list[dict[str, Any]], said: list[dict[str, Any]], row: dict[str, Any], where: str) -> Record:
    used = ("id", "prompt", "answer", "instruction", "input", "chosen", "rejected", "score", "keep")
    try:
        messages = [Message.model_validate({"role": t["role"], "content": t["content"]}) for t in [*prompt, *said]]
        own = digest([m.model_dump() for m in messages])
        meta = {k: v for k, v in row.items() if k not in used}
        return Record(id=own, task="gold", messages=messages, seeds=[own], checks=[Check(name="gold")], meta=meta)
    except (ValidationError, KeyError, TypeError) as error:
        raise UsageError(f"{where}: not a conversation: {' '.join(str(error).split())[:200]}") from error


def _lookup(run: Run, wanted: set[str]) -> dict[str, Record]:
    """Records of this run by id, as the newest stage that has them wrote them."""
    found: dict[str, Record] = {}
    for stage in STAGES:
        version = run.current(stage) if wanted - found.keys() else None
        for record in version.everything() if version is not None else ():
            if record.id in wanted:
                found.setdefault(record.id, record)
    return found
