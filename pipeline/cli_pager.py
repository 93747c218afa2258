"""What a command prints may go to a pager, or to `head`, which stop reading when they have seen enough."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def paged() -> Iterator[None]:
    """Print within: where the reader of stdout has gone, the command has done its work (exit code 0)."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as gone:  # rich exits with 1 where it meets a closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has nowhere to go
        raise typer.Exit from gone
