"""Rows on disk for a while: a queue, for a rule that sees the last before it judges the first; and lines by number."""

import tempfile
from collections import deque
from collections.abc import Iterator

from pipeline.records import Record

HELD = 4096  # records read back at once


class Spool:
    """What `deque` is to `apply`, in a temporary file; memory holds the records about to leave."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the queue
        self._head: deque[Record] = deque()
        self._read = 0  # bytes read back
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Record]:
        while self._length:
            yield self.popleft()

    def __getitem__(self, place: int) -> Record:
        if place != 0:
            raise IndexError("only the first is at hand")
        self._fill()
        return self._head[0]

    def append(self, record: Record) -> None:
        """Add at the end."""
        self._file.seek(0, 2)
        self._file.write(record.line())
        self._length += 1

    def popleft(self) -> Record:
        """Remove the first."""
        self._fill()
        self._length -= 1
        return self._head.popleft()

    def _fill(self) -> None:
        if self._head:
            return
        self._file.seek(self._read)
        for _ in range(min(HELD, self._length)):
            self._head.append(Record.model_validate_json(self._file.readline()))
        self._read = self._file.tell()


class Lines:
    """Lines in a temporary file, to be taken out in another order than they were put in."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this does
        self._at: dict[int, tuple[int, int]] = {}
        self._end = 0

    def put(self, number: int, line: bytes) -> None:
        """Keep a line."""
        self._at[number] = (self._end, len(line))
        self._file.seek(self._end)
        self._end += self._file.write(line)

    def get(self, number: int) -> bytes:
        """A line that was kept."""
        start, length = self._at[number]
        self._file.seek(start)
        return self._file.read(length)
