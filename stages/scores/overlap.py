"""How near an answer comes to the held-out ones in its words and characters: ROUGE-L and chrF; the best of several.

For open tasks such as stories both are low for good answers too: they tell a student that keeps to its teacher's
subject from one that does not, and little more.
"""

import regex

from filters.text import folded_words
from stages.bootstrap import Score
from stages.scores.base import Columns, Metric, Paper

ROUGE_L = Metric("rouge_l", "ROUGE-L")
CHRF = Metric("chrf", "chrF", style="share")
_UNIT = regex.compile(r"\p{Hangul}|[^\p{Hangul}]+")


def units(text: str) -> list[str]:
    """Words; Hangul by the syllable, since particles hang on Korean words, as Han and kana by the character."""
    return [unit for word in folded_words(text) for unit in _UNIT.findall(word)]


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence (Lin 2004), 0 to 1."""
    from rapidfuzz.distance import Indel

    said, wanted = units(answer), units(reference)
    return float(Indel.normalized_similarity(said, wanted)) if said and wanted else 0.0  # 2 LCS / (m + n)


def overlap(paper: Paper) -> Columns:
    """Against the held-out answers; nothing where those are the answers."""
    if paper.own or not paper.answers:
        return {}
    from sacrebleu.metrics import chrf

    scorer = chrf.CHRF()
    pairs = list(zip(paper.answers, paper.answered, strict=True))
    return {
        ROUGE_L: [Score(max(rouge_l(answer, reference) for reference in x.references)) for answer, x in pairs],
        CHRF: [Score(scorer.sentence_score(answer, x.references).score / 100) for answer, x in pairs],
    }
