"""How different a model's answers are from one another, so that collapse shows; neither way is better by itself.

Both figures hang on how many answers there are and how long they are: compare models on the same prompts.
"""

import itertools
from collections import Counter

from filters.text import folded_words
from stages.bootstrap import Column, Score
from stages.scores.base import Columns, Metric, Paper

DISTINCT = Metric("distinct_2", "distinct-2", "", "share")
SELF_BLEU = Metric("self_bleu", "self-BLEU", "", "share")
LENGTH = Metric("characters", "characters", "")
ENDED = Metric("ended", "ended by itself", "", "share")
BESIDE = 63  # other answers that each is held against, at most


def diversity(paper: Paper) -> Columns:
    """Distinct-2 (Li et al. 2016), self-BLEU (Zhu et al. 2018), how long answers are, and how many were whole."""
    if not paper.answers:
        return {}
    texts = [folded_words(answer) for answer in paper.answers]
    columns: Columns = {DISTINCT: distinct(texts), LENGTH: [Score(len(answer)) for answer in paper.answers]}
    if len(texts) > 1:
        columns[SELF_BLEU] = self_bleu(texts)
    if paper.ended:
        columns[ENDED] = [Score(float(ended)) for ended in paper.ended]
    return columns


def distinct(texts: list[tuple[str, ...]]) -> Column:
    """Each text's part in the share of different word pairs among all: a pair said k times counts 1/k each time."""
    pairs = [list(itertools.pairwise(words)) for words in texts]
    times = Counter(pair for own in pairs for pair in own)
    return [Score(sum(1 / times[pair] for pair in own) / len(own), len(own)) if own else None for own in pairs]


def self_bleu(texts: list[tuple[str, ...]]) -> Column:
    """Each text's BLEU against the ones that follow it in a ring, 0 to 1; 1 where another says the same."""
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(tokenize="none", effective_order=True, force=True)
    lines = [" ".join(words) for words in texts]
    found: list[Score | None] = []
    for place, line in enumerate(lines):
        others = (lines[place + 1 :] + lines[:place])[:BESIDE]
        found.append(Score(min(1.0, scorer.sentence_score(line, others).score / 100)) if line else None)
    return found
