"""How far two sets of verdicts agree: rank correlation, kappa, pairwise accuracy, each with a bootstrap interval.

Rows of one prompt are drawn together (a cluster bootstrap): answers to one question are not independent. Figures that
a sample does not determine, such as a correlation of equal numbers, are None.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Measured = dict[str, float | None]
DRAWS = 1000
Z = 1.96
ENOUGH = 0.5  # of the draws have to determine a figure for an interval


class Figure(NamedTuple):
    """A figure with the ends of its 95 % interval, where there are some."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def shown(self) -> str:
        """The value as people read it."""
        if self.value is None:
            return "undefined"
        return f"{self.value:,.0f}" if self.name.endswith("_rows") else f"{self.value:.2f}"

    @property
    def between(self) -> str:
        """The ends of the interval, "" where there is none."""
        return "" if self.low is None or self.high is None else f"{self.low:.2f} to {self.high:.2f}"


class Scored(NamedTuple):
    """A row with a judge's score and a person's; `good` is None where the person's has no threshold."""

    score: float
    gold: float
    length: int
    passed: bool
    good: bool | None


class Compared(NamedTuple):
    """Two answers of which a person prefers one: the judge's share for it (1, 0.5, 0), and that of the longer one.

    `letters` are a pairwise judge's verdicts in both orders.
    """

    won: float
    longer: float
    letters: str = ""


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            found[place] = (start + end + 1) / 2
        start = end
    return found


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's r; of ranks it is Spearman's rho."""
    n = len(x)
    if n < 3:
        return None
    mx, my = sum(x) / n, sum(y) / n
    dx, dy = [v - mx for v in x], [v - my for v in y]
    spread = math.sqrt(sum(d * d for d in dx) * sum(d * d for d in dy))
    return sum(a * b for a, b in zip(dx, dy, strict=True)) / spread if spread > 1e-12 else None


def partial(xy: float | None, xz: float | None, yz: float | None) -> float | None:
    """The correlation of x and y with z held fixed."""
    if xy is None or xz is None or yz is None:
        return xy if xz is None or yz is None else None
    left = (1 - xz * xz) * (1 - yz * yz)
    return (xy - xz * yz) / math.sqrt(left) if left > 1e-12 else None


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa (1960) of two raters who say yes or no."""
    n = len(pairs)
    if not n:
        return None
    a, b = sum(x for x, _ in pairs) / n, sum(y for _, y in pairs) / n
    chance = a * b + (1 - a) * (1 - b)
    return (sum(x == y for x, y in pairs) / n - chance) / (1 - chance) if chance < 1 - 1e-12 else None


def of_scores(rows: Sequence[Scored]) -> Measured:
    """Agreement of scores: in rank, at the thresholds, and next to what the answers' length alone would give."""
    score, gold, length = map(ranks, zip(*(row[:3] for row in rows), strict=True))
    rho, by_length, with_length = correlation(score, gold), correlation(length, gold), correlation(score, length)
    found: Measured = {
        "spearman": rho,
        "length_spearman": by_length,
        "spearman_over_length": None if rho is None or by_length is None else rho - abs(by_length),
        "spearman_with_length": with_length,
        "spearman_at_equal_length": partial(rho, with_length, by_length),
    }
    marked = [(row.passed, row.good) for row in rows if row.good is not None]
    if marked:
        both = sum(passed and good for passed, good in marked)
        passes, goods = sum(passed for passed, _ in marked), sum(good for _, good in marked)
        found |= {
            "kappa": kappa(marked),
            "precision": both / passes if passes else None,
            "recall": both / goods if goods else None,
        }
    return found


def of_pairs(pairs: Sequence[Compared]) -> Measured:
    """Agreement with preferences; the judge's ties are half right. Length may prefer the longer or the shorter."""
    n = len(pairs)
    if not n:
        return {}
    accuracy, longer = sum(pair.won for pair in pairs) / n, sum(pair.longer for pair in pairs) / n
    by_length = max(longer, 1 - longer)
    found: Measured = {
        "pair_accuracy": accuracy,
        "length_pair_accuracy": by_length,
        "pair_accuracy_over_length": accuracy - by_length,
        "pair_ties": sum(pair.won == 0.5 for pair in pairs) / n,
    }
    said = [pair.letters for pair in pairs if pair.letters]
    if said:
        found |= {
            "swap_flips": sum(letters[0] == letters[1] for letters in said) / len(said),
            "first_preferred": sum(letters.count("A") for letters in said) / (2 * len(said)),
        }
    return found


def saturation(scores: Sequence[float]) -> float:
    """The share of scores that round to the commonest whole number."""
    return Counter(map(round, scores)).most_common(1)[0][1] / len(scores)


def figures(clusters: Sequence[Sequence[T]], measure: Callable[[Sequence[T]], Measured], seed: int) -> list[Figure]:
    """What `measure` finds over all rows, with percentile intervals over draws of whole clusters (Efron 1979)."""
    whole = measure([row for cluster in clusters for row in cluster])
    chance = random.Random(seed)
    drawn: dict[str, list[float]] = {name: [] for name in whole}
    for _ in range(DRAWS):
        draw = measure([row for cluster in chance.choices(clusters, k=len(clusters)) for row in cluster])
        for name, value in draw.items():
            if value is not None:
                drawn[name].append(value)
    return [_figure(name, value, sorted(drawn[name])) for name, value in whole.items()]


def _figure(name: str, value: float | None, draws: list[float]) -> Figure:
    if value is None or len(draws) < ENOUGH * DRAWS:
        return Figure(name, value)
    return Figure(name, value, draws[round(0.025 * (len(draws) - 1))], draws[round(0.975 * (len(draws) - 1))])


def share(name: str, part: int, whole: int) -> Figure:
    """A share with its Wilson interval."""
    return Figure(name, part / whole, *wilson(part, whole)) if whole else Figure(name, None)


def wilson(part: int, whole: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a share (Wilson 1927); `whole` is not 0."""
    p, z2 = part / whole, Z * Z
    centre = (p + z2 / (2 * whole)) / (1 + z2 / whole)
    half = Z / (1 + z2 / whole) * ((p * (1 - p) + z2 / (4 * whole)) / whole) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


class Threshold(NamedTuple):
    """A bound on the score, and what passing it would be worth."""

    min_score: float
    precision: float
    recall: float
    rows: int


def threshold_for(rows: Sequence[Scored], precision: float) -> Threshold | None:
    """The loosest bound above which at least `precision` of the rows are good; None where no bound does."""
    marked = sorted(((row.score, bool(row.good)) for row in rows if row.good is not None), reverse=True)
    goods = sum(good for _, good in marked)
    best, right = None, 0
    for n, (score, good) in enumerate(marked, 1):
        right += good
        last = n == len(marked) or marked[n][0] < score
        if last and right / n >= precision:
            best = Threshold(score, right / n, right / goods if goods else 0.0, n)
    return best
