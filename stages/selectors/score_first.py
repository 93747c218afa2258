"""Score first, difference second (DEITA, arXiv 2312.15685): the best, unless one much like it was chosen already."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from stages.selectors.base import Candidates, Choice, Selector
from stages.selectors.ranks import by_score, verdicts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 512  # candidates compared with the chosen at once


class ScoreFirst(Selector):
    """From the best score down, without those near a chosen one; they fill up where too few are left."""

    kind: Literal["score_first"] = "score_first"
    max_cosine: Annotated[float, Field(ge=-1, le=1, description="over this a chosen one is too near")] = 0.9

    def pick(self, candidates: Candidates, keep: int, seed: int) -> list[Choice]:
        """Goes no further down than it must; who was skipped is told for whom."""
        ids, scores = candidates.ids, candidates.scores
        order, skipped = _walk(candidates.vectors, by_score(candidates), keep, self.max_cosine)
        order += list(skipped)[: keep - len(order)]
        last = f"the last one chosen has {scores[order[-1]]:.4g}"
        near = {i: f"cosine {cosine:.3f} to {ids[j]}" for i, (j, cosine) in skipped.items()}

        def left_out(i: int) -> tuple[str, str]:
            return ("near_chosen", near[i]) if i in near else ("below_score", f"{scores[i]:.4g}; {last}")

        return verdicts(order, len(ids), left_out, lambda i: f"fills up: {near[i]}" if i in near else "")


def _walk(
    vectors: "NDArray[np.float32]", ranked: list[int], keep: int, limit: float
) -> tuple[list[int], dict[int, tuple[int, float]]]:
    """Up to `keep` that are not near each other; and those skipped on the way, with the nearest chosen and its cosine.

    A block is compared with all that were chosen before it in one product, then its records with each other.
    """
    import numpy as np

    order: list[int] = []
    skipped: dict[int, tuple[int, float]] = {}
    theirs = np.zeros((min(keep, len(ranked)) + 1, vectors.shape[1]), np.float32)
    for start in range(0, len(ranked), BLOCK):
        block = ranked[start : start + BLOCK]
        rows = np.asarray(vectors[block])
        before, known = rows @ theirs[: max(1, len(order))].T, len(order)
        nearest, among = before.argmax(axis=1), rows @ rows.T
        fresh: list[int] = []
        for row, i in enumerate(block):
            if len(order) == keep:
                return order, skipped
            found = [(float(before[row, nearest[row]]), int(nearest[row]))] if known else []
            if fresh:
                last = int(among[row, fresh].argmax())
                found.append((float(among[row, fresh[last]]), known + last))
            cosine, place = max(found, key=lambda pair: pair[0], default=(-2.0, -1))
            if cosine > limit:
                skipped[i] = order[place], cosine
                continue
            theirs[len(order)] = rows[row]
            order.append(i)
            fresh.append(row)
    return order, skipped
