"""How varied the wording of a choice of texts is, beside random choices of the same size.

A token is a run of letters and digits, or one character of Hangul, Han or kana (`filters/shingles.py`): missing or
wrong spaces in Korean change nothing. Case and compatibility forms make no difference. Texts without a token are left
out. Longer texts repeat more words, so figures say something beside those of texts of similar length only.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from filters.shingles import ngrams, tokenize
from stages.diversity import DECIMALS, Better, Comparison, Figure, random_sets, sample, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]
    Tokens = list[NDArray[np.uint64]]

TEXTS = 200  # of a choice are read
CHARS = 20_000  # of a text are read
ORDER = 4  # longest n-grams of BLEU
MISSED = 0.1  # counted for an order without any match, so that the mean over orders is not zero

BETTER: dict[str, Better] = {"distinct_1": "higher", "distinct_2": "higher", "self_bleu": "lower"}


class Wording(NamedTuple):
    """What is measured of a set of texts; None where they are too few or too short."""

    distinct_1: float | None
    distinct_2: float | None
    self_bleu: float | None


class Choices(NamedTuple):
    """Rows of the texts to read: of a choice, and of random ones of the same size."""

    chosen: list[int]
    drawn: list[list[int]]
    size: int
    """of the choice they were taken from"""

    def wanted(self) -> list[int]:
        """All of them, in ascending order."""
        return sorted({*self.chosen, *(row for rows in self.drawn for row in rows)})


def choices(n: int, chosen: "Rows", seed: int) -> Choices:
    """Which texts to read, at most `TEXTS` of the chosen rows and of each of the random choices among n."""
    ours = chosen[sample(len(chosen), TEXTS, seed)]
    drawn = random_sets(n, len(ours), seed)
    return Choices(ours.tolist(), [rows.tolist() for rows in drawn], len(chosen))


def compare(choices: Choices, texts: Mapping[int, str]) -> Comparison:
    """The figures of the choice and of the random ones; `texts` has every wanted row."""
    ours = measure([texts[row] for row in choices.chosen])._asdict()
    drawn = [measure([texts[row] for row in rows])._asdict() for rows in choices.drawn]
    found = {name: Figure(ours[name], spread([d[name] for d in drawn]), None, BETTER[name]) for name in ours}
    return Comparison(found, choices.size, len(drawn), len(choices.chosen))


def measure(texts: Sequence[str]) -> Wording:
    """The figures of a set of texts."""
    found = tokenize([text[:CHARS] for text in texts])
    tokens = [t for t in (found.hashes[a:b] for a, b in pairwise(found.rows)) if len(t)]
    return Wording(distinct(tokens, 1), distinct(tokens, 2), self_bleu(tokens))


def distinct(tokens: "Tokens", n: int) -> float | None:
    """Distinct n-grams by all n-grams of a set, 0 to 1 (Li et al. 2016, arXiv 1510.03055); None without n-grams.

    The paper divides by tokens, of which there are more: where no pair of words comes twice, this says 1.
    """
    import numpy as np

    grams = [ngrams(text, n) for text in tokens]
    total = sum(map(len, grams))
    return round(len(np.unique(np.concatenate(grams))) / total, DECIMALS) if total else None


def self_bleu(tokens: "Tokens") -> float | None:
    """BLEU-4 of each text against all others, on average, 0 to 1 (Zhu et al. 2018, arXiv 1802.01886).

    1 where every text says what others say. A text of fewer than four tokens counts by the orders it has. None for
    one text. Linear in the number of tokens: of all other texts, the one that has an n-gram most often is the one
    that has it most often among all, or the second where that is the text itself.
    """
    import numpy as np

    if len(tokens) < 2:
        return None
    lengths = np.array([len(text) for text in tokens])
    logs, matched = np.zeros(len(tokens)), np.zeros(0)
    for n in range(1, ORDER + 1):
        matches = _matches(tokens, n)
        if n == 1:
            matched = matches
        possible = np.maximum(lengths - n + 1, 1)
        precision = np.maximum(matches, MISSED) / possible
        logs += np.where(lengths >= n, np.log(precision), 0)
    scores = np.exp(logs / np.minimum(lengths, ORDER)) * _brevity(lengths)
    return round(float(np.where(matched > 0, scores, 0).mean()), DECIMALS)


def _matches(tokens: "Tokens", n: int) -> "NDArray[np.float64]":
    """How many n-grams of each text stand in another one, each at most as often as in that other one."""
    import numpy as np

    found = [np.unique(ngrams(text, n), return_counts=True) for text in tokens]
    counts = np.concatenate([c for _, c in found])
    owners = np.repeat(np.arange(len(tokens)), [len(c) for _, c in found])
    kinds = np.unique(np.concatenate([g for g, _ in found]), return_inverse=True)[1]
    order = np.lexsort((-counts, kinds))
    counts, owners, kinds = counts[order], owners[order], kinds[order]
    first = np.flatnonzero(np.diff(kinds, prepend=-1))  # the place of each n-gram's largest count
    ends = np.append(first[1:], len(kinds))
    second = np.where(first + 1 < ends, counts[np.minimum(first + 1, len(counts) - 1)], 0) if len(first) else first
    others = counts[first][kinds]
    others[first] = second
    return np.bincount(owners, np.minimum(counts, others), len(tokens)).astype(np.float64)


def _brevity(lengths: "Rows") -> "NDArray[np.float64]":
    """BLEU's penalty for being shorter than the other text of the nearest length, the shorter one of two."""
    import numpy as np

    ordered = np.sort(lengths)
    place = np.searchsorted(ordered, lengths)  # of the first of equal length
    twins = np.searchsorted(ordered, lengths, side="right") - place > 1
    below = np.where(place > 0, ordered[place - 1], -np.inf)
    above = np.append(ordered, np.inf)[np.searchsorted(ordered, lengths, side="right")]
    closest = np.where(lengths - below <= above - lengths, below, above)
    return np.where(twins, 1.0, np.exp(np.minimum(0, 1 - closest / lengths)))
