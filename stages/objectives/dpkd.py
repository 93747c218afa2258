"""Direct preference knowledge distillation (Li et al. 2024, arXiv 2406.19774): the teacher is the reference."""

from typing import Any, Literal

from stages.objectives.base import LearnsFrom, Model, Teaching
from stages.objectives.distil import require_same_tokens
from stages.objectives.preference import Pairs, Preference


class Dpkd(Preference):
    """The teacher's answer likelier than the student's own, both measured from what the teacher gives them.

    Of one prompt: -log sigmoid(beta log q(y_t)/p(y_t) - beta log q(y_s)/p(y_s)), with q the student and p the teacher.
    `loss_type: sigmoid_norm` divides each of the two by the tokens of its answer; `[sigmoid_norm, sft]` adds
    cross-entropy on the teacher's answer. This is the paper's formula; its authors' code goes token by token.
    """

    kind: Literal["dpkd"] = "dpkd"
    pairs: Pairs = "student"

    @property
    def learns_from(self) -> LearnsFrom:
        """The teacher itself."""
        return "teacher"

    def require(self, student: Model, teacher: Model | None) -> None:
        """Refuse other tokens than the teacher's. Raises UsageError."""
        if teacher is not None:
            require_same_tokens(self.kind, student, teacher)

    def reference(self, model: Any, teaching: Teaching) -> Any:
        """The teacher."""
        return teaching.teacher
