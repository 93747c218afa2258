"""What a trainer will feed the student, looked at before the first step: figures, examples, and what to refuse.

TRL prepares the rows itself, for a model without weights: its template, its masks, its collator. What is judged here
is what it made.
"""

import copy
import math
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import console
from pipeline.errors import UsageError
from stages.objectives.base import MASKED, Fed, Objective
from stages.preflight_rows import Fault, Reader

SHOWN = 3


class Found(NamedTuple):
    """A fault, how many rows have it, and the first of them."""

    fault: Fault
    rows: int
    id: str

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return self.fault._asdict() | {"rows": self.rows, "record": self.id}

    def __str__(self) -> str:
        more = f" ({self.rows:,} rows, this one first)" if self.rows > 1 else ""
        return f"record {self.id}: {self.fault.what}{more}" if self.id else self.fault.what


UNKNOWN = Found(
    Fault("teacher_unknown", "the teacher's tokenizer is not here: its control tokens were not looked for", "",
          refused=False), 0, "",
)  # fmt: skip


class Example(NamedTuple):
    """A row as the student gets it: stretches of text, trained or masked."""

    id: str
    pieces: list[tuple[str, bool]]
    of: str = ""
    """which of several sequences of the row"""


class Preflight(NamedTuple):
    """Figures of all rows as they are fed; tokens are counted after the cut, `longest` before it."""

    rows: int
    tokens: int
    trained: int
    longest: int
    longest_id: str
    cut: int
    lost: int
    """rows of which the cut leaves nothing to learn: TRL leaves them out"""
    gone: int
    """records of which no row is left"""
    steps: int
    passes: float
    """how often a row is seen in all"""
    found: list[Found]
    examples: list[Example]
    data: Any
    """the rows with their tokens, uncut, for the trainer (a `datasets.Dataset`)"""
    parameters: int = 0
    """of the student"""
    teacher_parameters: int = 0
    """of the teacher, where the objective learns from it"""

    @property
    def share(self) -> float:
        """Trained tokens over all."""
        return self.trained / max(1, self.tokens)

    @property
    def work(self) -> float:
        """Tokens that the whole training goes through."""
        return self.tokens * self.passes

    def figures(self) -> dict[str, Any]:
        """For the manifest."""
        counts = {n: getattr(self, n) for n in ("rows", "tokens", "trained", "longest", "cut", "lost")}
        return counts | {"trained_share": round(self.share, 4), "longest_record": self.longest_id}

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        shown = [
            {"record": e.id, "text": [{"text": t, "trained": on} for t, on in e.pieces]}
            | ({"of": e.of} if e.of else {})
            for e in self.examples
        ]
        return self.figures() | {"steps": self.steps, "found": [f.plain() for f in self.found], "examples": shown}

    def refuse(self) -> None:
        """Raise UsageError that lists every fault that training must not go on with."""
        faults = [found for found in self.found if found.fault.refused]
        if faults:
            hints = list(dict.fromkeys(found.fault.hint for found in faults))
            lines = [str(found) for found in faults]
            head = lines[0] if len(lines) == 1 else "\n- ".join([f"{len(lines)} reasons not to train:", *lines])
            raise UsageError(head, hint="\n      ".join(hints))


def examine(
    objective: Objective,
    student: tuple[Any, Any],
    rows: Any,
    folder: Path,
    *,
    teacher: frozenset[str] | None,
    max_cut: float,
) -> Preflight:
    """Look at `rows` (a `datasets.Dataset`) as the objective's trainer feeds them to `student`.

    `student`: a model without weights and its tokenizer; `teacher`: the teacher's control tokens, None where they
    are not known; `max_cut`: the share of rows that may be cut. Raises UsageError where the trainer refuses the rows.
    """
    model, tokenizer = student
    # A trainer may give its tokenizer another template or end of turn: each gets its own.
    drafted = _drafted(objective.draft(whole=True), model, copy.deepcopy(tokenizer), rows, folder)
    data = drafted.train_dataset
    seen = _Seen(Reader(drafted, teacher or ()), _Cut.of(objective.draft(whole=False).arguments(len(data), folder, 0)))
    with console.Bar("preflight", len(data)) as bar:
        for row in data:
            seen.add(row, objective.fed(drafted, row))
            bar.advance()
    steps, passes = 0, 0.0
    if seen.lost < seen.rows:
        cutting = _drafted(objective.draft(whole=False), model, copy.deepcopy(tokenizer), data, folder)
        steps, passes = count_steps(cutting)
    found = [*seen.found.values(), *seen.of_all(max_cut), *([UNKNOWN] if teacher is None else [])]
    return seen.result(found, steps, passes, data)


def count_steps(trainer: Any) -> tuple[int, float]:
    """Optimizer steps of the whole training, and how often it goes through the rows."""
    args = trainer.args
    epoch = max(1, -(-len(trainer.get_train_dataloader()) // args.gradient_accumulation_steps))
    steps = int(args.max_steps) if args.max_steps > 0 else max(1, math.ceil(epoch * float(args.num_train_epochs)))
    return steps, steps / epoch


class _Cut(NamedTuple):
    """How a trainer shortens a row."""

    length: int | None
    from_end: bool

    @classmethod
    def of(cls, args: Any) -> "_Cut":
        """By the trainer's arguments; two ways of packing split long rows and lose nothing of them."""
        splits = getattr(args, "packing", False) and args.packing_strategy != "bfd"
        return cls(None if splits else args.max_length, args.truncation_mode == "keep_end")

    def __call__(self, fed: Fed) -> Fed:
        if self.length is None or len(fed.ids) <= self.length:
            return fed
        kept = slice(-self.length, None) if self.from_end else slice(self.length)
        return Fed(fed.ids[kept], fed.labels[kept])


class _Seen:
    """Everything to be said of the rows that came so far."""

    def __init__(self, reader: Reader, cut: _Cut) -> None:
        self.reader, self.cut = reader, cut
        self.lengths = array("L")
        self.tokens = self.trained = self.lost = self.gone = self.longest = 0
        self._id, self._taught = "", False  # the record of the last row, and whether any of it is trained
        self.longest_id = ""
        self.found: dict[str, Found] = {}
        self.first: list[Example] = []
        self.faulty: list[Example] = []

    @property
    def rows(self) -> int:
        """So many came."""
        return len(self.lengths)

    def add(self, row: dict[str, Any], sequences: list[Fed]) -> None:
        """One row more, and all that is fed of it."""
        id_, had = row["id"], set(self.found)
        cut = [self.cut(whole) for whole in sequences]
        for reason, fault in self._faults(row, sequences).items():
            before = self.found.get(reason, Found(fault, 0, id_))
            self.found[reason] = before._replace(rows=before.rows + 1)
        new = bool(set(self.found) - had)
        if new or len(self.first) < SHOWN:
            (self.faulty if new else self.first).extend(Example(id_, self.reader.pieces(fed), fed.of) for fed in cut)
        self.lengths.append(length := max(len(whole.ids) for whole in sequences))
        if length > self.longest:
            self.longest, self.longest_id = length, id_
        trained = sum(label != MASKED for fed in cut for label in fed.labels)
        if id_ != self._id:  # rows of one record follow each other
            self._id, self._taught = id_, False
            self.gone += 1
        if trained:
            self.tokens += sum(len(fed.ids) for fed in cut)
            self.trained += trained
            self.gone -= not self._taught
            self._taught = True
        else:
            self.lost += 1

    def _faults(self, row: dict[str, Any], sequences: list[Fed]) -> dict[str, Fault]:
        """The first of each kind, with the column it is in where there are several."""
        found: dict[str, Fault] = {}
        for whole in sequences:
            for fault in self.reader.faults(row, whole):
                named = f"{whole.of}: {fault.what}" if whole.of else fault.what
                found.setdefault(fault.reason, fault._replace(what=named))
        return found

    @property
    def shortened(self) -> int:
        """Rows that are cut."""
        return sum(n > self.cut.length for n in self.lengths) if self.cut.length is not None else 0

    def result(self, found: list[Found], steps: int, passes: float, data: Any) -> Preflight:
        """The whole."""
        examples = [*self.faulty, *self.first][:SHOWN]
        return Preflight(self.rows, self.tokens, self.trained, self.longest, self.longest_id, self.shortened, self.lost,
                         self.gone, steps, passes, found, examples, data)  # fmt: skip

    def of_all(self, max_cut: float) -> Iterable[Found]:
        """What only all rows together show: too many cut, nothing left of any."""
        length, cut = self.cut.length, self.shortened
        enough = sorted(self.lengths)[math.ceil((1 - max_cut) * self.rows) - 1]
        hint = (
            f"train.objective.max_length: {enough} keeps within max_cut; or leave long rows out, or raise train.max_cut"
        )
        if cut / self.rows > max_cut:
            what = (
                f"max_length {length} cuts {cut:,} of {self.rows:,} rows ({cut / self.rows:.1%}), and max_cut is "
                f"{max_cut:.1%}: record {self.longest_id} has {self.longest:,} tokens"
            )
            yield Found(Fault("too_many_cut", what, hint), cut, "")
        if self.lost == self.rows and "nothing_trained" not in self.found:
            what = f"max_length {length} leaves no trained token in any row: a batch of them is masked all over"
            yield Found(Fault("all_masked", what, f"train.objective.max_length: {self.longest}"), self.lost, "")


def _drafted(objective: Objective, model: Any, tokenizer: Any, rows: Any, folder: Path) -> Any:
    """The trainer of a draft. Raises UsageError, with the record that stops it where it is one."""
    from jinja2 import TemplateError

    try:
        return objective.trainer(model, tokenizer, rows, folder, 0)
    except UsageError:
        raise
    except (ValueError, TypeError, ImportError, RuntimeError, TemplateError) as error:
        why = " ".join(str(error).split())[:400]
        if (culprit := _culprit(tokenizer, rows)) is not None:
            raise UsageError(
                f"record {culprit}: the student's chat template refuses it: {why}",
                hint="drop such rows, or use a template that takes them: "
                "train.objective.config: {chat_template_path: FILE.jinja}",
            ) from error
        raise UsageError(f"TRL refuses these settings: {why}") from error


def _culprit(tokenizer: Any, rows: Any) -> str | None:
    """The first row whose prompt the template does not take."""
    from jinja2 import TemplateError

    for row in rows:
        try:
            tokenizer.apply_chat_template(row["prompt"], tokenize=False)
        except (TemplateError, ValueError, TypeError):
            return str(row["id"])
    return None
