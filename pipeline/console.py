"""How the program talks: data to stdout, talk (progress, summaries, warnings) to stderr.

Libraries that write to file descriptors 1 and 2 on their own (vLLM and its native code) are sent to a log
file by `silenced`, while progress goes on through a copy of the real stderr.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline.visible import visible

SETTLED = 10  # items after which a rate means something
NOTE_EVERY = 0.5  # seconds between changes of the note beside a live bar
PLAIN_EVERY = 15.0  # seconds between progress lines where there is no terminal

_quiet = False
_real_stderr: TextIO | None = None


class _Stderr:
    """The stderr of the moment: the saved copy while descriptors are redirected."""

    def write(self, text: str) -> int:
        return (_real_stderr or sys.stderr).write(text)

    def flush(self) -> None:
        (_real_stderr or sys.stderr).flush()

    def isatty(self) -> bool:
        return (_real_stderr or sys.stderr).isatty()

    def fileno(self) -> int:
        return (_real_stderr or sys.stderr).fileno()


_talk = Console(file=_Stderr(), highlight=False, soft_wrap=True)  # type: ignore[arg-type]


def set_quiet(quiet: bool) -> None:
    """Only errors from here on."""
    global _quiet
    _quiet = quiet


def cell(text: str) -> str:
    """Somebody's text as a cell of a table: neither the terminal nor rich takes any of it for a command."""
    return escape(visible(text))


def say(text: str) -> None:
    """A line to the user, on stderr."""
    if not _quiet:
        _talk.print(cell(text))


def warn(text: str) -> None:
    """Something the user should know, on stderr."""
    if not _quiet:
        _talk.print(f"[yellow]warning:[/] {cell(text)}")


def complain(text: str) -> None:
    """An error; printed even when quiet."""
    _talk.print(f"[red]error:[/] {cell(text)}")


def show(thing: RenderableType) -> None:
    """A table or panel as part of the talk, with a line of air above."""
    if not _quiet:
        talk = Console(file=_Stderr(), highlight=False, width=width())  # type: ignore[arg-type]
        talk.print()
        talk.print(thing)


def table(*columns: str, title: str = "", right: tuple[str, ...] = ()) -> Table:
    """An empty table in the project's style; columns named in `right` are right-aligned."""
    made = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", header_style="dim", overflow="fold")
    return made


def print_out(value: RenderableType = "") -> None:
    """Data to stdout: a string as it is, or a rich table."""
    if isinstance(value, str):
        sys.stdout.write(value + "\n")
    else:
        Console(file=sys.stdout, highlight=False, width=width()).print(value)


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    if columns := os.environ.get("COLUMNS", ""):
        return int(columns) if columns.isdigit() else 100
    return min(os.get_terminal_size(2).columns or 100, 140) if os.isatty(2) else 100


@contextlib.contextmanager
def silenced(log: Path | None) -> Iterator[None]:
    """Send descriptors 1 and 2 to `log` (appended), or nowhere; the program's own talk goes on."""
    global _real_stderr
    if _real_stderr is not None:  # already silenced further out
        yield
        return
    target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    _real_stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        with contextlib.suppress(OSError):
            _real_stderr.close()
        _real_stderr = None


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")


class Bar:
    """Progress of one long step: a live bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, label: str, total: int | None, note: Callable[[], str] | None = None) -> None:
        self.label, self.total, self.done, self._note = label, total, 0, note
        self._started = self._spoke = self._first = time.monotonic()
        self._at_first = 0
        self._live: Progress | None = None
        if not _quiet and _talk.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[note]}"),
                console=_talk,
                transient=True,
                redirect_stdout=False,  # rich would put itself in the place of the stderr it writes to
                redirect_stderr=False,
            )

    def __enter__(self) -> "Bar":
        if self._live is not None:
            self._live.start()
            self._task = self._live.add_task(self.label, total=self.total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self.done and error is None:
            spent = time.monotonic() - self._started
            say(f"{self.label}: {self.done} in {clock(spent)} ({self.done / max(spent, 1e-9):.1f}/s)")

    def advance(self, n: int = 1) -> None:
        """Count `n` more as done."""
        now = time.monotonic()
        if self.done == 0:  # models load before the first is done: rates are counted from here
            self._first, self._at_first = now, n
        self.done += n
        if self._live is not None:
            self._live.advance(self._task, n)
            if self._note is not None and now - self._spoke >= NOTE_EVERY:
                self._spoke = now
                self._live.update(self._task, note=self._note())
        elif now - self._spoke >= PLAIN_EVERY:
            self._spoke = now
            say(self._plain(now - self._first) + (f"; {self._note()}" if self._note is not None else ""))

    def _plain(self, spent: float) -> str:
        counted = f"{self.label}: {self.done}/{self.total}" if self.total else f"{self.label}: {self.done}"
        rate = (self.done - self._at_first) / spent if spent > 0 else 0.0
        if self.done - self._at_first < SETTLED:
            return counted
        left = f", {clock((self.total - self.done) / rate)} left" if self.total else ""
        return f"{counted}, {rate:.1f}/s{left}"


def clock(seconds: float) -> str:
    """Seconds as people read them: `0.4 s`, `41 s`, `3:05`, `2:10:00`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
