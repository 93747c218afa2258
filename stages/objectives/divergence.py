"""How far a student's next-token distribution is from its teacher's, position by position.

p is the teacher, q the student; every function gives one value in nats for each of N positions.
"""

import math
from typing import Any, Literal

from pipeline.engines.trace import FLOOR

Divergence = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_rkl", "tvd"]

NONE = -1e-6  # the least that may be left for the tail, as the logarithm of what the others hold


def between(p: Any, q: Any, kind: Divergence, *, beta: float = 0.5, skew: float = 0.1) -> Any:
    """Divergence of two log-distributions (N, V) -> (N,).

    forward_kl KL(p||q); reverse_kl KL(q||p); jsd: beta KL(p||m) + (1 - beta) KL(q||m), m = beta p + (1 - beta) q (GKD,
    arXiv 2306.13649, eq. 1); skew_kl KL(p || skew p + (1 - skew) q) and skew_rkl KL(q || skew q + (1 - skew) p)
    (DistiLLM, arXiv 2402.03898); tvd: half the sum of |p - q|.
    """
    match kind:
        case "forward_kl":
            return _kl(p, q)
        case "reverse_kl":
            return _kl(q, p)
        case "jsd":
            middle = _mixed(p, q, beta)
            return beta * _kl(p, middle) + (1 - beta) * _kl(q, middle)
        case "skew_kl":
            return _kl(p, _mixed(p, q, skew))
        case "skew_rkl":
            return _kl(q, _mixed(q, p, skew))
        case "tvd":
            return 0.5 * (p.exp() - q.exp()).abs().sum(-1)


def softened(logits: Any, temperature: float) -> Any:
    """Logits (N, V) as log-probabilities at a temperature, in float32."""
    return (logits.float() / temperature).log_softmax(-1)


def bucketed(logits: Any, tokens: Any, logprobs: Any) -> tuple[Any, Any]:
    """Teacher and student over the teacher's k stored tokens and one bucket for all others: (N, k + 1) each.

    `logits` (N, V) are the student's; `tokens` and `logprobs` (N, k) the teacher's at temperature 1. Merging tokens
    into a bucket can only bring distributions closer, so every divergence between the two is a lower bound of that
    between the whole ones (data processing inequality), and equals it when nothing is left for the bucket.
    """
    p = logprobs.float()
    none = p <= FLOOR  # impossible, or fewer than k were stored: both leave it to the bucket
    q = logits.float().log_softmax(-1).gather(-1, tokens.clamp(min=0)).masked_fill(none, FLOOR)
    return _with_tail(p), _with_tail(q)


def _with_tail(logprobs: Any) -> Any:
    import torch

    held = logprobs.logsumexp(-1, keepdim=True).clamp(max=NONE)
    return torch.cat([logprobs, torch.log(-torch.expm1(held))], -1)


def _kl(a: Any, b: Any) -> Any:
    """KL(a || b) of two log-distributions."""
    return (a.exp() * (a - b)).sum(-1)


def _mixed(a: Any, b: Any, share: float) -> Any:
    """The logarithm of share a + (1 - share) b."""
    import torch

    return torch.logaddexp(a + math.log(share), b + math.log1p(-share))
