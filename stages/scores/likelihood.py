"""How likely a model finds texts that it did not write: perplexity, and bits a byte, which tokenizers do not change."""

import math
from collections.abc import Sequence

from stages.bootstrap import Score
from stages.scores.base import Columns, Loss, Metric, Paper

PERPLEXITY = Metric("perplexity", "perplexity", "lower", "perplexity")
BITS = Metric("bits_per_byte", "bits/byte", "lower", "bits")
HUMAN_PERPLEXITY = Metric("human_perplexity", "perplexity, human text", "lower", "perplexity", "human")
HUMAN_BITS = Metric("human_bits_per_byte", "bits/byte, human text", "lower", "bits", "human")


def likelihood(paper: Paper) -> Columns:
    """Of the held-out answers, given their prompts."""
    return _columns(paper.losses, PERPLEXITY, BITS)


def human(losses: Sequence[Loss]) -> Columns:
    """Of texts that people wrote."""
    return _columns(losses, HUMAN_PERPLEXITY, HUMAN_BITS)


def _columns(losses: Sequence[Loss], perplexity: Metric, bits: Metric) -> Columns:
    if not losses:
        return {}
    return {
        perplexity: [Score(x.nats / x.tokens, x.tokens) if x.tokens else None for x in losses],
        bits: [Score(x.nats / math.log(2) / x.bytes, x.bytes) if x.bytes else None for x in losses],
    }
