"""What a command prints may go to a pager, or to `head`, which stop reading when they have seen enough."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def paged(*, ends: bool = True) -> Iterator[None]:
    """Print within. Where the reader of stdout has gone the command ends there, with exit code 0.

    Without `ends` the rest is printed for nobody, and the command goes on to an exit code of its own.
    """
    given = sys.stdout
    if not _read_by_another():
        yield
        return
    given.flush()
    out = _Out(given.fileno(), "wb", closefd=False)
    out.ends = ends
    line_by_line = bool(given.line_buffering)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(out), given.encoding, given.errors, line_buffering=line_by_line)
    try:
        yield
    finally:
        out.ends = False  # what is left in the buffer changes the exit code no more
        sys.stdout.flush()
        sys.stdout = given


class _Out(io.FileIO):
    """A descriptor whose reader may go; with `ends` the command goes, too."""

    ends = False

    def write(self, data: "ReadableBuffer", /) -> int:
        """As FileIO writes; for nobody where the reader has gone. Raises SystemExit where that is the end."""
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if self.ends:
                raise SystemExit(0) from None
            return memoryview(data).nbytes


def _read_by_another() -> bool:
    """Whether stdout is a pipe or a file rather than a terminal, nothing, or a buffer in this process."""
    try:
        return not os.isatty(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):
        return False
