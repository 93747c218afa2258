"""The lie of the land: topics with names, a map, and figures of a choice beside random ones."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filters import tongues
from pipeline.records import Check, Record
from pipeline.store import write_jsonl
from stages import diversity, picture, topics, wording
from stages.choice import Chosen, Compared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAP, ROWS = "map.svg", "embeddings.jsonl"
SHOWN = 120  # characters of an example
LANGUAGE_CHARS = 2000  # of a record its language is told from
SHARES = 12  # values of a field that are told apart


class Landscape:
    """The rows of a pool that have a vector, by topic. `rows` below are places among these."""

    def __init__(self, compared: Compared, seed: int) -> None:
        import numpy as np

        self._compared, self._seed = compared, seed
        self.places = np.flatnonzero(compared.usable)
        whole = len(self.places) == len(compared.usable)
        self.vectors = compared.vectors if whole else compared.vectors[self.places]
        self.found = topics.find(self.vectors, seed)
        self.topics = np.full(len(compared.usable), -1, np.int64)
        """(N,) the topic of every row of the pool; -1 without a vector"""
        self.topics[self.places] = self.found.labels
        pool = compared.pool
        self._pool = diversity.Pool(self.vectors, pool.scores[self.places], pool.chars[self.places], self.found.labels)

    def compare(self, chosen: Chosen) -> diversity.Comparison:
        """The choice beside random choices of the same size from all rows, duplicates among them too."""
        return diversity.compare(self._pool, self.rows(chosen), self._seed)

    def rows(self, chosen: Chosen) -> "NDArray[np.int64]":
        """The chosen."""
        import numpy as np

        return np.searchsorted(self.places, np.array(chosen.places, np.int64))

    def portrait(self, chosen: Chosen, title: str) -> "Portrait":
        """Everything there is to see of a choice; reads the rows once more."""
        return Portrait(self, self._compared, chosen, (title, self._seed))


class Portrait:
    """A choice in words, figures and a picture."""

    def __init__(self, land: Landscape, compared: Compared, chosen: Chosen, told: tuple[str, int]) -> None:
        self._land, self._compared = land, compared
        self._title, self._seed = told
        self._picked = set(chosen.places)
        self._rows = land.rows(chosen)
        read = wording.choices(len(land.places), self._rows, self._seed)
        isolated = [row for row, _ in land.found.isolated]
        wanted = {*land.found.wanted(), *read.wanted(), *isolated}
        texts, self._shares = self._read({int(land.places[row]): row for row in wanted})
        self.names = topics.named(land.found, texts)
        self._texts = {row: texts[row] for rows in [*land.found.central, isolated] for row in rows}
        self._wording = wording.compare(read, texts)
        self._comparison = land.compare(chosen)

    def topic(self, place: int) -> list[Check]:
        """A row's topic, and how far it lies from its middle."""
        topic = int(self._land.topics[place])
        if topic < 0:
            return []
        distance = float(self._land.found.distances[self._land.places.searchsorted(place)])
        return [Check(name="topic", value=topic, detail=f"{self.names[topic]}; {distance:.3f} from its middle")]

    def topics(self, places: list[int]) -> list[int]:
        """The topics of some rows, as numbers."""
        return [int(self._land.topics[place]) for place in places]

    def figures(self) -> dict[str, Any]:
        """What the manifest says of the choice."""
        plain = self._comparison.plain()
        plain["figures"] |= self._wording.plain()["figures"]
        return {"comparison": plain, "topics": self._described(), "isolated": self._isolated(), "shares": self._shares}

    def write(self, folder: Path) -> None:
        """The map, and a line per row: where it lies on the map, its topic, its fate."""
        import numpy as np

        land = self._land
        marks = {"chosen": picture.CHOSEN, "duplicate": picture.DUPLICATE}
        fates = np.array([marks.get(self._fate(place), picture.NOT_CHOSEN) for place in land.places.tolist()], np.int8)
        scene = picture.Scene(self._title, land.vectors, fates, land.found.labels, self.names)
        (folder / MAP).write_bytes(picture.svg(scene, self._seed))
        places = np.zeros((len(land.topics), 2))
        places[land.places], _ = picture.project(land.vectors, np.arange(len(land.places)), self._seed)
        rows = enumerate(zip(self._compared.pool.ids, places.tolist(), strict=True))
        write_jsonl(
            folder / ROWS,
            ({"id": name, "x": round(x, 5), "y": round(y, 5), "topic": int(land.topics[place]),
              "fate": self._fate(place)} for place, (name, (x, y)) in rows),
        )  # fmt: skip

    def _fate(self, place: int) -> str:
        if place in self._picked:
            return "chosen"
        if place in self._compared.duplicates:
            return "duplicate"
        return "not_chosen" if self._compared.usable[place] else "no_vector"

    def _read(self, wanted: dict[int, int]) -> tuple[dict[int, str], dict[str, Any]]:
        """The texts of rows, and the shares of sources, tasks, models and languages among all and among the chosen."""
        texts: dict[int, str] = {}
        counted: dict[str, tuple[Counter[str], Counter[str]]] = {}
        for source, record in self._compared.pool.read.rows():
            place = self._compared.pool.place[record.id]
            if place in wanted:
                texts[wanted[place]] = self._text(record)
            for field, value in _fields(source, record).items():
                before, after = counted.setdefault(field, (Counter(), Counter()))
                before[value] += 1
                after[value] += place in self._picked
        return texts, {field: _shares(*both) for field, both in counted.items()}

    def _text(self, record: Record) -> str:
        return record.answer or record.prompt

    def _described(self) -> list[dict[str, Any]]:
        chosen = Counter(self._land.topics[place] for place in self._picked)
        return [
            {
                "name": name,
                "rows": size,
                "chosen": chosen[topic],
                "central": [self._id(row) for row in central],
                "example": _brief(self._texts[central[0]]),
            }
            for topic, (name, size, central) in enumerate(
                zip(self.names, self._land.found.sizes, self._land.found.central, strict=True)
            )
        ]

    def _isolated(self) -> list[dict[str, Any]]:
        return [
            {"id": self._id(row), "distance": distance, "fate": self._fate(int(self._land.places[row])),
             "text": _brief(self._texts[row])}
            for row, distance in self._land.found.isolated
        ]  # fmt: skip

    def _id(self, row: int) -> str:
        return self._compared.pool.ids[int(self._land.places[row])]


def _fields(source: int, record: Record) -> dict[str, str]:
    """What the shares are counted of."""
    text = (record.answer or record.prompt)[:LANGUAGE_CHARS]
    spoken = tongues.shares(text)
    given = record.meta.get("source")
    return {
        "from": "new" if source == 0 else f"replay {source}",
        "source": given if isinstance(given, str) else "unknown",
        "task": record.task,
        "model": record.made_by.model or "unknown",
        "language": max(spoken, key=lambda code: (spoken[code], code)) if spoken else "unknown",
    }


def _shares(before: Counter[str], after: Counter[str]) -> dict[str, list[float]]:
    """Each value's share of all and of the chosen, the largest first; what is beyond the twelfth in one."""
    all_, chosen = before.total(), max(1, after.total())
    ranked = sorted(before, key=lambda value: (-before[value], value))
    found = {v: [round(before[v] / all_, 4), round(after[v] / chosen, 4)] for v in ranked[:SHARES]}
    if rest := ranked[SHARES:]:
        found["others"] = [
            round(sum(before[v] for v in rest) / all_, 4), round(sum(after[v] for v in rest) / chosen, 4)
        ]  # fmt: skip
    return found


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."
