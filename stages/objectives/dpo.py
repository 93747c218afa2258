"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290), from the judge's pairs or the student's."""

import copy
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.objectives.base import Teaching
from stages.objectives.preference import Pairs, Preference


class Dpo(Preference):
    """The chosen answer likelier than the rejected one, measured from what the student was (TRL's DPOTrainer)."""

    kind: Literal["dpo"] = "dpo"
    pairs: Pairs = "judge"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6

    def reference(self, model: Any, teaching: Teaching) -> Any:
        """A copy of the student. With adapters it is the student without them, and no copy is needed."""
        if self.lora is not None or self.config.get("precompute_ref_log_probs"):
            return None
        # Left to itself TRL loads the model named in the configuration: for a student that was cut, the whole teacher.
        copied = copy.deepcopy(model).eval().requires_grad_(False)
        if copied.device.type == "meta":
            copied._is_accelerate_prepared = True  # else it would be moved, and there is nothing to move
        return copied
