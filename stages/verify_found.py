"""What a verification finds, and ids by the million: eight bytes each."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from pipeline.store import REMAKE, Version

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 5  # lines or ids that one finding names


class Finding(NamedTuple):
    """A `problem`, which has to be mended, or a `note`, which is worth knowing."""

    sort: Literal["problem", "note"]
    where: str
    what: str
    todo: str


class Findings:
    """Collects what is found. Words from files lose what a terminal would obey."""

    def __init__(self) -> None:
        self.found: list[Finding] = []

    def problem(self, where: str, what: str, todo: str) -> None:
        """Something is wrong."""
        self.found.append(Finding("problem", plain(where), plain(what), plain(todo)))

    def note(self, where: str, what: str, todo: str = "") -> None:
        """Nothing is wrong."""
        self.found.append(Finding("note", plain(where), plain(what), plain(todo)))

    def of(self, version: Version, file: str, what: str) -> None:
        """Something is wrong with a file of a version, or with its manifest."""
        self.problem(f"{short(version)}/{file}", what, REMAKE.format(version.path))


def short(version: Version) -> str:
    """A version as the folders name it: `filter/0002-1b5c2a77`."""
    return f"{version.path.parent.name}/{version.path.name}"


def plain(text: str) -> str:
    """Text as one line of printable characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


def named(places: Sequence[object]) -> str:
    """The first of them, and that there are more."""
    return ", ".join(map(str, places[:SHOWN])) + (", ..." if len(places) > SHOWN else "")


def key(name: str) -> int:
    """64 bits of an id's digest. Of a million ids two share them once in 37 million times."""
    said = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little")


class Ids:
    """A collection of ids that answers which are twice and which are not in it."""

    def __init__(self) -> None:
        self._keys = array("Q")
        self._settled: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, name: str) -> None:
        """One more."""
        self._keys.append(key(name))
        self._settled = None

    def twice(self) -> set[int]:
        """Keys that were added more than once."""
        keys = self._sorted()
        return set(keys[1:][keys[1:] == keys[:-1]].tolist())

    def outside(self, others: "Ids") -> int:
        """How many of these are not among the others."""
        import numpy as np

        return int((~np.isin(self._sorted(), others._sorted())).sum())

    def known(self, names: Iterable[str]) -> list[bool]:
        """For each name whether it is in here."""
        import numpy as np

        keys = self._sorted()
        asked = np.array([key(name) for name in names], np.uint64)
        if not len(keys):
            return [False] * len(asked)
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        found: list[bool] = (keys[at] == asked).tolist()
        return found

    def _sorted(self) -> "NDArray[np.uint64]":
        import numpy as np

        if self._settled is None:
            self._settled = np.sort(np.frombuffer(bytes(self._keys), np.uint64))
        return self._settled
