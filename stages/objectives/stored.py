"""The teacher's log-probabilities that `generate` stored beside its shards, by record id (docs/records.md)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pipeline.engines.trace import FLOOR
from pipeline.errors import UsageError
from pipeline.store import Version

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tokens(NamedTuple):
    """What the teacher wrote for one record, T tokens, and the k likeliest at each place."""

    ids: "NDArray[np.int32]"
    top: "NDArray[np.int32]"
    """(T, k)"""
    logprobs: "NDArray[np.float16]"
    """(T, k), natural logarithm, at temperature 1"""


class Stored:
    """Files of log-probabilities, read a record at a time: nothing but their index is held in memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        from safetensors import safe_open

        self._files: list[Any] = [safe_open(str(file), framework="np") for file in files]
        self._offsets = [file.get_tensor("offsets") for file in self._files]
        about = [file.metadata() for file in self._files]
        self.k = max(int(one["k"]) for one in about)
        """the most tokens that are stored of a place"""
        self.model = about[0]["model"]
        self._where = {id_: (n, row) for n, one in enumerate(about) for row, id_ in enumerate(orjson.loads(one["ids"]))}

    @classmethod
    def of(cls, version: Version | None) -> "Stored":
        """Those of a version of `generate`. Raises UsageError where there are none."""
        files = sorted(version.path.glob("logprobs-*.safetensors")) if version else []
        if not files:
            where = (
                f"{version.name} of generate has"
                if version
                else "these rows come from no version of generate, so there are"
            )
            raise UsageError(
                f"{where} no stored log-probabilities",
                hint="generate with sampling: {top_logprobs: 20}; or learn from the teacher itself: stored: false",
            )
        return cls(files)

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._where

    def tokens(self, record_id: str) -> Tokens | None:
        """What is stored of a record; None where nothing is."""
        if record_id not in self._where:
            return None
        n, row = self._where[record_id]
        start, stop = (int(self._offsets[n][row + i]) for i in (0, 1))
        return Tokens(
            *(self._files[n].get_slice(name)[start:stop] for name in ("tokens", "top_tokens", "top_logprobs"))
        )


def covered(labels: Sequence[int], stored: Tokens | None, masked: int) -> tuple[int, int]:
    """Where in a row of labels the stored tokens stand: position of the first, and how many agree from there.

    The teacher wrote the last answer, so they belong to the last stretch that is trained.
    """
    stop = next((n for n in range(len(labels), 0, -1) if labels[n - 1] != masked), 0)
    start = next((n + 1 for n in range(stop - 1, -1, -1) if labels[n] == masked), 0)
    if stored is None:
        return start, 0
    agree = 0
    for ours, theirs in zip(labels[start:stop], stored.ids.tolist(), strict=False):
        if ours != theirs:
            break
        agree += 1
    return start, agree


def collated(base: Any, stored: Stored, masked: int) -> Any:
    """A collator that puts the stored log-probabilities beside the labels of `base`'s batches.

    `teacher_tokens` int64 and `teacher_logprobs` float32 are (rows, length, k), row t for the token at t;
    `teacher_known` bool (rows, length) says where there are any.
    """
    import torch

    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = base(examples)
        rows, length = batch["labels"].shape
        tokens = torch.zeros(rows, length, stored.k, dtype=torch.long)
        logprobs = torch.full((rows, length, stored.k), FLOOR)
        known = torch.zeros(rows, length, dtype=torch.bool)
        for n, example in enumerate(examples):
            found = stored.tokens(example["id"])
            start, agree = covered(batch["labels"][n].tolist(), found, masked)
            if found is None or not agree:
                continue
            here, k = slice(start, start + agree), found.top.shape[1]
            tokens[n, here, :k] = torch.from_numpy(found.top[:agree]).long()
            logprobs[n, here, :k] = torch.from_numpy(found.logprobs[:agree]).float()
            known[n, here] = True
        return batch | {"teacher_tokens": tokens, "teacher_logprobs": logprobs, "teacher_known": known}

    return collate
