"""The tasks that Self-Instruct knows: the seeds and what the teacher has written, and how alike a new one is to them.

Novelty is ROUGE-L over tokens: words where a script puts spaces between them; Hangul, Han and kana by the character,
since Korean particles make another word of the same noun. Texts become strings of one code point a token, so that all
comparisons with one text run inside rapidfuzz: 1 ms for 10,000 instructions.
"""

import copy
import random
import sys
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import regex
from rapidfuzz import process
from rapidfuzz.distance import Indel

from filters.text import normal
from pipeline.errors import UsageError
from pipeline.records import Seed, Split, digest

UNKNOWN = "\0"  # a token that no text seen holds
LONGEST = 1000  # characters of an instance that may be shown: a long one crowds out the rest
_CHARACTER = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"
_TOKEN = regex.compile(rf"{_CHARACTER}|(?:(?!{_CHARACTER})[\p{{L}}\p{{M}}\p{{N}}])+")


class Alike(NamedTuple):
    """The most similar text, and the ROUGE-L F-measure from 0 to 1."""

    text: str
    score: float


class Seen:
    """Texts in the order they came."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._coded: list[str] = []
        self._codes: dict[str, str] = {}

    def add(self, text: str) -> None:
        """One more."""
        tokens = _TOKEN.findall(normal(text))
        for token in tokens:  # past the last code point all are one: a million different words further on
            self._codes.setdefault(token, chr(min(len(self._codes) + 1, sys.maxunicode)))
        self._texts.append(text)
        self._coded.append("".join(self._codes[token] for token in tokens))

    def closest(self, text: str, least: float, first: int | None = None) -> Alike | None:
        """The most similar one whose score reaches `least`, of the `first` so many or of all."""
        coded = "".join(self._codes.get(token, UNKNOWN) for token in _TOKEN.findall(normal(text)))
        # 2 * LCS / (m + n) is both ROUGE-L's F-measure and what rapidfuzz calls the normalized indel similarity. It
        # leaves out those whose length alone keeps them below `least`.
        found = process.extractOne(coded, self._coded[:first], scorer=Indel.normalized_similarity, score_cutoff=least)
        return Alike(self._texts[found[2]], found[1]) if found else None


class Instance(NamedTuple):
    """What a task works on (may be empty) and the right answer."""

    input: str
    output: str


class Known(NamedTuple):
    """A task as it may be shown; only seeds come with an instance."""

    id: str
    split: Split
    instruction: str
    instance: Instance | None = None
    classification: bool = False


def known(seed: Seed, field: str) -> Known:
    """The seed as a task, with its first instance. Raises UsageError that names the seed's place."""
    instruction = seed.fields.get(field)
    if not isinstance(instruction, str) or not instruction.strip():
        raise UsageError(f"{seed.where}: {field} holds no instruction")
    match seed.fields.get("instances"):
        case None | []:
            first: Any = seed.fields
        case [first, *_]:
            pass
        case other:
            first = other
    taken, said = (first.get(name) or "" for name in Instance._fields) if isinstance(first, Mapping) else (None, None)
    if not (isinstance(taken, str) and isinstance(said, str)):
        raise UsageError(f"{seed.where}: an instance is an object with the texts `input` (may be empty) and `output`")
    instance = Instance(taken.strip(), said.strip()) if said.strip() else None
    return Known(seed.id, seed.split, instruction.strip(), instance, seed.fields.get("is_classification") is True)


class Pool:
    """What may be shown, and what a new instruction must differ from. Held-out tasks are shown to their like only."""

    def __init__(self, seeds: Iterable[Known]) -> None:
        self._tasks: list[Known] = []
        self._places: dict[tuple[str, Split], list[int]] = {}  # of the tasks of one sort, ascending
        self._splits: dict[str, Split] = {}
        self._seen = Seen()
        self._upto: int | None = None
        for task in seeds:
            self._add(task, "seed")
            if task.instance and len(task.instance.input) + len(task.instance.output) <= LONGEST:
                self._place("labelled" if task.classification else "solved", task)

    def now(self) -> "Pool":
        """The same without what will be taken in later."""
        view = copy.copy(self)  # shares the lists, which only grow
        view._upto = len(self._tasks)
        return view

    def closest(self, instruction: str, least: float) -> Alike | None:
        """The most similar instruction whose ROUGE-L reaches `least`."""
        return self._seen.closest(instruction, least, self._upto)

    def take(self, instruction: str, shown: str) -> None:
        """Add an instruction that was written from examples; `shown` is the id of one of them."""
        split = self._splits[shown]
        self._add(Known(digest(instruction), split, instruction), "written")

    def drawn(self, own: Known, count: int, written: int, chance: random.Random) -> list[Known]:
        """`own` and others in any order, up to `written` of them the teacher's, seeds in place of those missing."""
        made = self._some(("written", own.split), written, chance, own)
        seeds = self._some(("seed", own.split), count - 1 - len(made), chance, own)
        tasks = [own, *made, *seeds]
        chance.shuffle(tasks)
        return tasks

    def solved(self, own: Known, classification: bool, count: int, chance: random.Random) -> list[Known]:
        """Seed tasks with an instance that is not long."""
        return self._some(("labelled" if classification else "solved", own.split), count, chance)

    def _add(self, task: Known, sort: str) -> None:
        self._tasks.append(task)
        self._splits[task.id] = task.split
        self._seen.add(task.instruction)
        self._place(sort, task)

    def _place(self, sort: str, task: Known) -> None:
        self._places.setdefault((sort, task.split), []).append(len(self._tasks) - 1)

    def _some(
        self, sort: tuple[str, Split], count: int, chance: random.Random, but: Known | None = None
    ) -> list[Known]:
        """So many tasks of one sort, or all there are."""
        places = self._places.get(sort, [])
        known_by_now = len(places) if self._upto is None else bisect_left(places, self._upto)
        drawn = chance.sample(range(known_by_now), min(count + 1, known_by_now))
        tasks = [self._tasks[places[n]] for n in drawn]
        return [task for task in tasks if but is None or task.id != but.id][:count]
