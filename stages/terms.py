"""Names for groups of texts: the terms that set a group apart from the others.

Terms are words in lower case, English stop words left out; of Korean the nouns, by kiwipiepy; of Chinese and Japanese
runs of katakana, and of Han up to four characters, or their pairs. A text may mix them.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, islice, pairwise
from typing import TYPE_CHECKING

import regex

from pipeline import console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TERMS = 3  # of a name
CHARS = 2_000  # of a text are read
LONGEST = 40  # characters of a term; what is longer is no word
HAN = 4  # characters; a longer run is rarely one word
NAMELESS = "no words"
_HANGUL = regex.compile(r"[가-힣]{2,}")
_HAN = regex.compile(r"\p{Han}{2,}")
_KATAKANA = regex.compile(r"[\p{Katakana}ー]{2,}")
_SPACED = r"[\p{L}\p{M}--[\p{Hangul}\p{Han}\p{Hiragana}\p{Katakana}ー]]"
_WORD = regex.compile(rf"({_SPACED}{{2,}})(?:['’](\p{{L}}+))?", regex.V1)


def names(groups: Sequence[Sequence[str]]) -> list[str]:
    """A name for each group of texts: its terms of most weight, joined by commas; no two names are the same."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

    texts = [unicodedata.normalize("NFKC", text[:CHARS]) for text in chain.from_iterable(groups)]
    nouns = _nouns() if any(map(_HANGUL.search, texts)) else _HANGUL.findall

    def terms(text: str) -> list[str]:
        words = (word.lower() for word, tail in _WORD.findall(text) if tail in ("", "s"))
        found = (*(w for w in words if w not in ENGLISH_STOP_WORDS), *nouns(text), *_unspaced(text))
        return [term for term in found if len(term) <= LONGEST] or [""]  # a vocabulary must not be empty

    vectorizer = CountVectorizer(analyzer=terms, binary=True)
    weights = _weights(vectorizer.fit_transform(texts), [len(group) for group in groups])
    vocabulary = vectorizer.get_feature_names_out()
    return _named(_ranked(row, vocabulary) for row in weights)


def _weights(counts: "NDArray[np.int64]", sizes: list[int]) -> "NDArray[np.float64]":
    """Class-based TF-IDF (Grootendorst 2022, arXiv 2203.05794) of K groups, (K, V), from sparse counts (T, V).

    A text counts once for a term, so that no text names a group by itself. Within a group the order of terms is that
    of the paper's weights, which differ by a factor.
    """
    import numpy as np

    starts = np.cumsum([0, *sizes])
    of_group = np.stack([np.asarray(counts[a:b].sum(axis=0)).ravel() for a, b in pairwise(starts)])
    in_all = of_group.sum(axis=0)
    weights: NDArray[np.float64] = of_group * np.log1p(in_all.sum() / len(sizes) / in_all)
    return weights


def _ranked(weights: "NDArray[np.float64]", vocabulary: Sequence[str]) -> Iterator[str]:
    """Terms of a group, the one of most weight first; of `model` and `models` only the first."""
    import numpy as np

    taken: list[str] = []
    for i in np.lexsort((np.arange(len(weights)), -weights)):
        term = vocabulary[i]
        if weights[i] > 0 and term and not any(t.startswith(term) or term.startswith(t) for t in taken):
            taken.append(term)
            yield term


def _named(groups: Iterable[Iterator[str]]) -> list[str]:
    found: list[str] = []
    for terms in groups:
        name = ", ".join(islice(terms, TERMS)) or NAMELESS
        while name in found and (more := next(terms, None)):
            name = f"{name}, {more}"
        if name in found:
            name = next(numbered for n in count(2) if (numbered := f"{name} ({n})") not in found)
        found.append(name)
    return found


def _unspaced(text: str) -> Iterator[str]:
    yield from _KATAKANA.findall(text)
    for run in _HAN.findall(text):
        yield from [run] if len(run) <= HAN else (run[i : i + 2] for i in range(len(run) - 1))


def _nouns() -> Callable[[str], list[str]]:
    """What finds Korean nouns of two characters and more; whole words where kiwipiepy is not installed."""
    try:
        from kiwipiepy import Kiwi
    except ImportError:
        console.warn("kiwipiepy is not installed: Korean topics are named by words with their particles, not by nouns")
        return _HANGUL.findall
    kiwi = Kiwi(num_workers=1)

    def nouns(text: str) -> list[str]:
        if not _HANGUL.search(text):
            return []
        return [t.form for t in kiwi.tokenize(text) if t.tag in ("NNG", "NNP") and _HANGUL.fullmatch(t.form)]

    return nouns
