"""Banned words and phrases, in any script, and words that have to stand."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from filters.base import TextFilter
from filters.wordlist import WordList
from pipeline.component import PlanFile
from pipeline.records import Check


def listed(file: Path) -> list[str]:
    """The words of a list: one a line; empty lines and those that begin with # are none."""
    lines = map(str.strip, file.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _readable(file: Path) -> Path:
    try:
        found = listed(file)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}:{line} is not UTF-8: save the list in that encoding") from error
    if not found:
        raise ValueError(f"{file} lists no words")
    return file


List = Annotated[PlanFile, AfterValidator(_readable)]


class Words(TextFilter):
    """Drops texts that hold a banned word or lack a required one; case, Unicode form and particles do not matter."""

    kind: Literal["words"] = "words"
    banned: Annotated[tuple[str, ...], Field(description="words or phrases; `robot*` also bans what goes on")] = ()
    banned_file: Annotated[List | None, Field(description="a list, one a line; # begins a comment")] = None
    required: Annotated[tuple[str, ...], Field(description="words or phrases that have to stand in the text")] = ()
    required_file: Annotated[List | None, Field(description="a list of required words")] = None
    require: Annotated[Literal["all", "any"], Field(description="how many of the required words")] = "all"

    @model_validator(mode="after")
    def _some(self) -> "Words":
        if self.require == "any" and not (self.required or self.required_file):
            raise ValueError("`require: any` needs `required` or `required_file`")
        return self

    @cached_property
    def _banned(self) -> WordList:
        return WordList((*self.banned, *(listed(self.banned_file) if self.banned_file else ())))

    @cached_property
    def _required(self) -> WordList:
        return WordList((*self.required, *(listed(self.required_file) if self.required_file else ())))

    def measure(self, text: str) -> Check:
        """How many banned words the text holds, or how many required ones it lacks; the detail names the first."""
        found = list(self._banned.found(text))
        if found:
            return self.no(len(found), "banned_word", f"found {found[0]!r}")
        wanted = [word.listed for word in self._required.words]
        there = set(self._required.found(text)) if wanted else set()
        missing = [word for word in wanted if word not in there]
        if missing and (self.require == "all" or not there):
            return self.no(len(missing), "missing_word", f"lacks {missing[0]!r}" + _more(len(missing) - 1))
        return self.yes(0)


def _more(count: int) -> str:
    return f" and {count} more" if count else ""
