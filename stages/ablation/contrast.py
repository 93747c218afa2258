"""Intervals for figures over students and prompts, both of which are drawn by chance.

A score depends on the student (its seed, its rows) and on the prompt. Arms are trained with students of their own and
asked the same prompts, so the variance of a difference of means has a part from the students of each arm and one from
the prompts, which both arms share; what is left counts in both, and is taken out once. Such sums follow a t
distribution whose degrees of freedom are Satterthwaite's (1946). Prompts that are hard for everybody widen nothing.

The model is that of studies with several readers and cases (Obuchowski and Rockette 1995; Hillis 2007), with students
as readers who each work for one arm.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from stages.bootstrap import ALIKE, Column, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SURE = 0.975


class _Part(NamedTuple):
    """A variance and its degrees of freedom."""

    variance: float
    freedom: int


def estimate(arms: Sequence[Sequence[Column]]) -> Interval | None:
    """The mean of one arm over its students, or the first arm's less the second's, with a 95 % interval.

    An arm has a column a student. Only prompts that all students were measured on count; None where there are none.
    No ends where neither students nor prompts are several, or where nothing differs.
    """
    scores = _influences(arms)
    if scores is None:
        return None
    means = [float(arm_KP.mean()) for arm_KP in scores]
    value = means[0] - means[1] if len(means) > 1 else means[0]
    prompts = scores[0].shape[1]
    half = _half(scores)
    if half is None or half <= ALIKE * max(map(abs, means)):
        return Interval(value, n=prompts)
    return Interval(value, value - half, value + half, prompts)


def _influences(arms: Sequence[Sequence[Column]]) -> "list[Array] | None":
    """Of each arm [students, prompts]: what each prompt says of a student's weighted mean, which is the row's mean."""
    import numpy as np

    columns = [column for arm in arms for column in arm]
    both = [row for row in zip(*columns, strict=True) if all(s is not None and s.weight > 0 for s in row)]
    if not both:
        return None
    values = np.array([[score.value for score in row] for row in both], dtype=np.float64).T
    weights = np.array([[score.weight for score in row] for row in both], dtype=np.float64).T
    means = (values * weights).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
    if not np.isfinite(means).all():
        return None
    spread = means + weights * (values - means) / weights.mean(1, keepdims=True)
    ends = np.cumsum([len(arm) for arm in arms])
    return np.split(spread, ends[:-1])


def _half(scores: "list[Array]") -> float | None:
    """Half the length of the interval; None where there is nothing to tell it from."""
    from scipy.stats import t  # type: ignore[import-untyped]

    signs = (1, -1)
    by_prompt = sum(sign * arm_KP.mean(0) for sign, arm_KP in zip(signs, scores, strict=False))
    prompts = len(scores[0][0])
    own = [_Part(arm_KP.mean(1).var(ddof=1) / len(arm_KP), len(arm_KP) - 1) for arm_KP in scores if len(arm_KP) > 1]
    shared = [_Part(by_prompt.var(ddof=1) / prompts, prompts - 1)] if prompts > 1 else []
    twice = [_rest(arm_KP) for arm_KP in scores if len(arm_KP) > 1 and prompts > 1]
    parts = [*own, *shared]
    total = sum(part.variance for part in parts) - sum(part.variance for part in twice)
    total = max(total, sum(part.variance for part in own), *(part.variance for part in shared), 0.0)
    if total <= 0:
        return 0.0 if parts else None
    freedom = total**2 / sum(p.variance**2 / p.freedom for p in [*parts, *twice])
    return float(t.ppf(SURE, max(freedom, 1.0)) * math.sqrt(total))


def _rest(arm_KP: "Array") -> _Part:  # noqa: N803  (students, prompts)
    """What neither the student nor the prompt explains, as it counts in a mean."""
    students, prompts = arm_KP.shape
    rest = arm_KP - arm_KP.mean(1, keepdims=True) - arm_KP.mean(0) + arm_KP.mean()
    freedom = (students - 1) * (prompts - 1)
    return _Part(float((rest**2).sum() / freedom / arm_KP.size), freedom)
