"""Texts as unit vectors, by a sentence-transformers model that this process loads."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from pipeline import console, torch_model
from pipeline.component import Knob
from pipeline.errors import ModelError
from pipeline.models import ensure
from pipeline.torch_model import LocalModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder(LocalModel):
    """Which sentence-transformers model, and how it is run."""

    model: Annotated[str, Field(description="Hub id, local path or demo: name")] = "demo:all-minilm-l6-v2"
    backend: Annotated[
        Literal["torch", "openvino", "openvino_int8"],
        Field(
            description="on a CPU openvino is 1.2 times as fast as torch, with the same vectors; openvino_int8 is 2.2 "
            "times as fast, with vectors at a cosine of 0.999 to those, which keep 97 % of the ten nearest neighbours"
        ),
    ] = "torch"
    batch_size: Annotated[int, Knob(), Field(ge=1)] = 32

    def open(self) -> "Encoder":
        """Load the model. Raises ModelError."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        found = ensure(self.model, self.revision)
        revision = None if found.local else self.revision or None
        try:
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.util import is_sentence_transformer_model
        except ImportError as error:
            hint = "pip install 'pipeline[embed]'"
            raise ModelError(f"sentence-transformers is not installed ({error})", hint=hint) from error
        with console.silenced(None):
            if not is_sentence_transformer_model(found.where, revision=revision):
                hint = "name one that has a modules.json, such as demo:all-minilm-l6-v2"
                raise ModelError(f"{self.model} is no sentence-transformers model", hint=hint)
            try:
                model = SentenceTransformer(
                    found.where,
                    device=None if self.backend == "torch" else "cpu",
                    revision=revision,
                    model_kwargs={"use_safetensors": True, "dtype": torch_model.number_format("auto")},
                )
            except Exception as error:  # files of any maker, in which anything may be wrong
                why = " ".join(str(error).split())[:400]
                raise ModelError(f"cannot load the embedding model {self.model}: {why}") from error
            if self.backend != "torch":
                from pipeline.embedder_openvino import convert

                convert(model, self.model, int8=self.backend == "openvino_int8")
        return Encoder(model, self)


class Encoder:
    """A loaded model."""

    def __init__(self, model: Any, settings: Embedder) -> None:
        self._model, self._settings = model, settings

    def encode(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Unit vectors, shape (N, D); what the model makes no finite numbers of is not finite here. Raises ModelError.

        In calls of 2,000 texts and more about 3 % of what a GPU reads is padding; a CPU never reads any.
        """
        import numpy as np

        if not texts:
            return np.empty((0, self._model.get_embedding_dimension()), np.float32)
        size, batches = self._settings.batch_size, list(self._batches(texts))
        try:
            found = [
                self._model.encode([texts[n] for n in batch], batch_size=size, show_progress_bar=False)
                for batch in batches
            ]
        except (RuntimeError, MemoryError) as error:
            why = f"{self._settings.model} failed while it embedded: {' '.join(str(error).split())[:400]}"
            hint = "where memory ran out, set a smaller batch_size"
            raise ModelError(why, hint=hint) from error
        vectors = np.empty((len(texts), found[0].shape[1]), np.float32)
        vectors[list(chain.from_iterable(batches))] = np.concatenate(found)
        with np.errstate(invalid="ignore"):
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Indices of texts to be read together, the longest first; on a CPU texts with the same number of tokens alone.

        Small batches are no slower there than padding, and a text that is not padded has the same vector in any
        company, in 8 bits too. A GPU would idle.
        """
        size, lengths = self._settings.batch_size, self._lengths(texts)
        order = sorted(range(len(texts)), key=lambda n: -lengths[n])
        alike = groupby(order, key=lengths.__getitem__) if self._model.device.type == "cpu" else [(0, iter(order))]
        for _, some in alike:
            while batch := list(islice(some, size)):
                yield batch

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text. sentence-transformers itself sorts by characters: a token has few in code and Korean."""
        from transformers import PreTrainedTokenizerBase

        tokenizer = self._model.tokenizer
        if not isinstance(tokenizer, PreTrainedTokenizerBase):  # word vectors, which are not padded
            return [0] * len(texts)
        return [len(ids) for ids in tokenizer(list(texts), truncation=True, verbose=False)["input_ids"]]

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._model = None
        torch_model.free()
