"""Which requests a process had in its engine when it crashed, for the next process to know.

A fault in native code ends the process; nothing catches it. So the keys of what goes into the engine and comes out are
noted in a file beside the engine's log, and Python's fault handler writes its last words there. A process that ended
by itself removes the file; one that was killed leaves it without those words, and nobody is suspected.
"""

import faulthandler
import os
from pathlib import Path

from pipeline.engines.base import Request

LAST_WORDS = b"Fatal Python error"
GROUPS = 16  # suspects are tried in so many groups; 256 need three more crashes at most


class InFlight:
    """The file, held open. `suspects`: the keys of what the process before this one crashed over."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.suspects = _suspects(path.read_bytes()) if path is not None and path.is_file() else frozenset[str]()
        self._file = -1 if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        if self._file >= 0:
            self._before = faulthandler.is_enabled()
            faulthandler.enable(self._file)
        self._fatal = False

    def group(self) -> int:
        """How many suspects to try at once."""
        return max(1, len(self.suspects) // GROUPS)

    def guilty(self, request: Request) -> bool:
        """Whether the process before this one crashed with this request alone in its engine."""
        return len(self.suspects) == 1 and self.suspected(request)

    def suspected(self, request: Request) -> bool:
        """Whether the request was in the engine when the process before this one crashed."""
        return bool(self.suspects) and _key(request) in self.suspects

    def enter(self, request: Request) -> None:
        """The request goes into the engine."""
        self._write(f"+{_key(request)}\n".encode())

    def leave(self, request: Request) -> None:
        """The request is out of the engine again."""
        self._write(f"-{_key(request)}\n".encode())

    def give_up(self, why: str) -> None:
        """The engine cannot be opened again in this process, as after a fault of the GPU: count that as a crash."""
        self._write(LAST_WORDS + f": {why}\n".encode())
        self._fatal = True

    def _write(self, line: bytes) -> None:
        if self._file >= 0:
            os.write(self._file, line)  # no fsync: the file has to outlive the process, not the machine

    def close(self) -> None:
        """The end of an orderly process; safe to call twice."""
        if self._file < 0 or self._path is None:
            return
        faulthandler.enable() if self._before else faulthandler.disable()
        os.close(self._file)
        self._file = -1
        if not self._fatal:
            self._path.unlink(missing_ok=True)


def _key(request: Request) -> str:
    return f"{request.key({})}.{request.sampling.max_tokens}"


def _suspects(content: bytes) -> frozenset[str]:
    inside: set[str] = set()
    before, crashed, _ = content.partition(LAST_WORDS)
    for line in before.decode("ascii", "replace").splitlines():
        (inside.add if line.startswith("+") else inside.discard)(line[1:])
    return frozenset(inside) if crashed else frozenset()
