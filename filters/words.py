"""Banned words and phrases, in any script."""

from functools import cached_property
from typing import Annotated, Literal

import regex
from pydantic import Field

from filters.base import Filter
from filters.text import normal
from pipeline.component import PlanFile
from pipeline.records import Check, Record

# A word may not continue a run of letters on its left. On its right, Hangul and kana words may carry
# particles (`로봇이`, `로봇은`), and so may a Latin word inside Korean text (`AI가`); Latin letters may not follow.
BEFORE = r"(?<![\p{L}\p{M}\p{N}])"
AFTER_SPACED = r"(?![\p{Latin}\p{Cyrillic}\p{Greek}\p{M}\p{N}])"


class Words(Filter):
    """Drops answers that hold a banned word or phrase; case and Unicode form do not matter."""

    kind: Literal["words"] = "words"
    banned: Annotated[tuple[str, ...], Field(description="words or phrases")] = ()
    banned_file: Annotated[PlanFile | None, Field(description="a list, one a line; # begins a comment")] = None

    @cached_property
    def _pattern(self) -> "regex.Pattern[str] | None":
        words = [normal(w) for w in (*self.banned, *self._listed()) if w.strip()]
        if not words:
            return None
        return regex.compile("|".join(_bounded(w) for w in sorted(words, key=len, reverse=True)))

    def _listed(self) -> list[str]:
        if self.banned_file is None:
            return []
        lines = self.banned_file.read_text(encoding="utf-8-sig").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]

    def judge(self, record: Record) -> Check:
        """How many banned words the answer holds; the reason names the first."""
        found = self._pattern.findall(normal(record.answer)) if self._pattern else []
        if found:
            return self.no(len(found), "banned_word", f"found {found[0]!r}")
        return self.yes(0)


def _bounded(word: str) -> str:
    """The word with boundaries where its ends are letters or digits."""
    before = BEFORE if word[0].isalnum() else ""
    escaped = str(regex.escape(word))
    if not regex.match(r"[\p{Latin}\p{Cyrillic}\p{Greek}\p{N}]", word[-1]):
        return before + escaped
    left = r"(?<![\p{Latin}\p{Cyrillic}\p{Greek}\p{M}\p{N}])" if before else ""
    return left + escaped + AFTER_SPACED
