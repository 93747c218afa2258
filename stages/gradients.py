"""Records by what a student would learn from them: the gradient of its loss on the answer, at its last layer.

A token with the error e = softmax(logits) - onehot(target), in R^V, and the head's input h, in R^H, has the gradient
e h^T there; a record has the mean over its answer's tokens. Records with like gradients teach alike: GradMatch
(Killamsetty et al. 2021, arXiv 2103.00123) has few records match the mean of all, at the last layer as here; LESS (Xia
et al. 2024, arXiv 2402.04333) compares random projections of whole gradients.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import Field

from filters.causal import CausalModel, Reader, Span, asked
from pipeline.errors import ModelError
from pipeline.records import Record
from stages.spaces import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 256  # the first projection: of 32, the square root of 1,024, inner products are twice as far off


class Gradients(CausalModel, Space):
    """Loss gradients of a causal student at its head, randomly projected; inner products are kept in expectation.

    Where weights are tied it is the gradient of their use in the head alone; where a model caps or scales its logits,
    the error is that of what comes out.
    """

    max_tokens: Annotated[int, Field(ge=8, description="of a longer conversation the end of the question counts")] = 512
    dimensions: Annotated[int, Field(ge=1, description="numbers a gradient is projected to")] = 1024

    def of(self, record: Record) -> str:
        """The conversation up to its last answer, as JSON."""
        return orjson.dumps([*asked(record), {"role": "assistant", "content": record.answer}]).decode()

    def open(self) -> "GradientReader":
        """Load the student. Raises ModelError."""
        return GradientReader(self)


class GradientReader(Reader):
    """A loaded student."""

    def __init__(self, settings: Gradients) -> None:
        super().__init__(settings)
        head = self._model.get_output_embeddings()
        if head is None:
            raise ModelError(f"{settings.model} has no language-model head", hint="name a causal language model")
        head.register_forward_pre_hook(self._note)
        vocabulary, hidden = head.weight.shape
        self._sketch = Sketch(vocabulary, hidden, settings.dimensions, device=self._model.device)
        self._hidden: Any = None

    def encode(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Projected gradients, shape (N, dimensions), of conversations as `Gradients.of` writes them.

        Zero where the answer has no tokens.
        """
        import numpy as np
        import torch

        spans = [self._span(text) for text in texts]
        found = np.zeros((len(spans), self._sketch.dimensions), np.float32)
        for rows in self.batches(spans):
            batch = [spans[n] for n in rows]
            with torch.inference_mode():
                made = [
                    self._sketch.gradient(logits, targets, self._hidden[row, span.start - 1 : len(span.ids) - 1])
                    for row, (span, (logits, targets)) in enumerate(zip(batch, self.logits(batch), strict=True))
                ]
                found[rows] = self._sketch.folded(torch.stack(made)).cpu().numpy()
            self._hidden = None
        return found

    def _span(self, text: str) -> Span:
        *before, last = orjson.loads(text)
        return self.after(before, self.tokens(last["content"]))

    def _note(self, head: Any, given: tuple[Any, ...]) -> None:
        self._hidden = given[0]


class Sketch:
    """Random projections of matrices e h^T, (V, H), that are never formed: (R^T e)(S^T h)^T, then its entries in sums.

    R (V, SIDE) and S (H, SIDE) are random signs over sqrt(SIDE); each entry then goes with a random sign into one of
    `dimensions` sums (a count sketch). E[RR^T] and E[SS^T] are the identity, so inner products are right on average.
    """

    def __init__(self, vocabulary: int, hidden: int, dimensions: int, *, device: Any = "cpu", seed: int = 0) -> None:
        import numpy as np
        import torch

        source = np.random.default_rng(seed)

        def signs(*shape: int) -> Any:
            drawn = source.integers(0, 2, shape, np.int8)
            return torch.from_numpy(drawn).to(device, torch.float32) * 2 - 1

        self.dimensions = dimensions
        self._errors, self._hidden = signs(vocabulary, SIDE) / SIDE**0.5, signs(hidden, SIDE) / SIDE**0.5
        self._signs = signs(SIDE * SIDE)
        self._sums = torch.from_numpy(source.integers(0, dimensions, SIDE * SIDE)).to(device)

    def gradient(self, logits: Any, targets: Any, hidden: Any) -> Any:
        """The mean gradient of T tokens after the first projection, (SIDE * SIDE,)."""
        errors = logits.softmax(-1) @ self._errors - self._errors[targets]
        return (errors.T @ (hidden.float() @ self._hidden)).flatten() / len(targets)

    def folded(self, gradients: Any) -> Any:
        """Those of N records after the second, (N, dimensions)."""
        sums = gradients.new_zeros(len(gradients), self.dimensions)
        return sums.index_add_(1, self._sums, gradients * self._signs)
