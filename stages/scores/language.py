"""Whether a model answers in the language of the held-out answer."""

from filters import tongues
from stages.bootstrap import Score
from stages.scores.base import Columns, Example, Metric, Paper

KEPT = Metric("language_kept", "language kept", style="share")
MOST = 0.5  # of the answer in that language
SHORT = 32  # bytes under which an answer tells no language


def language(paper: Paper) -> Columns:
    """1 or 0 for each answer whose held-out answer's language can be told."""
    if not paper.answers:
        return {}
    return {KEPT: [_kept(answer, x) for answer, x in zip(paper.answers, paper.answered, strict=True)]}


def _kept(answer: str, example: Example) -> Score | None:
    wanted = {code for reference in example.references for code in tongues.shares(reference)}
    told = tongues.shares(answer)
    if not wanted or (not told and len(answer.encode()) < SHORT):
        return None
    return Score(float(sum(told.get(code, 0.0) for code in wanted) >= MOST))  # a long text in no language keeps none
