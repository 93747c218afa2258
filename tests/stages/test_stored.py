"""Stored log-probabilities: found by record, laid beside the tokens they belong to, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.engines.trace import Trace
from pipeline.errors import UsageError
from stages.objectives.base import MASKED
from stages.objectives.stored import Stored, Tokens, collated, covered
from stages.sidecar import Sidecar


def trace(tokens: list[int], k: int = 2) -> Trace:
    """Each token likeliest, its neighbours next."""
    top = [[(token, -0.1), *((token + n, -2.0 - n) for n in range(1, k))] for token in tokens]
    return Trace.pack(k, tokens, [-0.1] * len(tokens), top)


def stored(folder: Path, **rows: list[int]) -> Stored:
    """A sidecar of some rows."""
    sidecar = Sidecar(folder, "big")
    for name, tokens in rows.items():
        sidecar.add(name, trace(tokens))
    sidecar.close()
    return Stored(sorted(folder.glob("logprobs-*.safetensors")))


def test_a_record_is_found_in_whichever_file_it_is(tmp_path: Path) -> None:
    """Files are cut by size, and k may differ between them."""
    sidecar = Sidecar(tmp_path, "big")
    for n in range(6):
        sidecar.add(f"r{n}", trace([10 * n, 10 * n + 1], k=2 if n < 4 else 3))
    sidecar.close()
    files = sorted(tmp_path.glob("logprobs-*.safetensors"))
    found = Stored(files)
    assert len(files) == 2 and found.k == 3 and found.model == "big"
    for n in range(6):
        tokens = found.tokens(f"r{n}")
        assert tokens is not None and tokens.ids.tolist() == [10 * n, 10 * n + 1]
        assert tokens.top.shape == (2, 2 if n < 4 else 3)
    assert found.tokens("r9") is None and "r9" not in found


def test_a_version_without_them_says_how_to_get_them() -> None:
    """The message names the setting."""
    with pytest.raises(UsageError, match=r"no stored log-probabilities\nhint: .*top_logprobs: 20"):
        Stored.of(None)


def tokens(*ids: int) -> Tokens:
    """Stored tokens; what else is stored does not matter here."""
    return Tokens(np.array(ids, np.int32), np.zeros((len(ids), 1), np.int32), np.zeros((len(ids), 1), np.float16))


@pytest.mark.parametrize(
    ("labels", "ids", "expected"),
    [
        ([MASKED, MASKED, 5, 6, 2], [5, 6, 2], (2, 3)),
        ([MASKED, 5, 6, 2, 9], [5, 6, 2], (1, 3)),  # a template's new line after the end
        ([MASKED, 5, 6], [5, 6, 2], (1, 2)),  # cut by max_length
        ([MASKED, 5, 7, 2], [5, 6, 2], (1, 1)),  # other words from the second on
        ([MASKED, 4, 6, 2], [5, 6, 2], (1, 0)),
        ([8, 2, MASKED, 5, 2, MASKED], [5, 2], (3, 2)),  # the last of several answers
        ([MASKED, MASKED], [5], (0, 0)),
    ],
)
def test_they_belong_to_the_last_answer(labels: list[int], ids: list[int], expected: tuple[int, int]) -> None:
    """As far as its tokens are those that the teacher wrote."""
    assert covered(labels, tokens(*ids), MASKED) == expected


@pytest.mark.slow
def test_a_batch_has_them_beside_its_labels(tmp_path: Path) -> None:
    """Row t holds the distribution of the token at t; rows of which nothing is stored have none."""
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collate = collated(DataCollatorForLanguageModeling(pad_token_id=0), stored(tmp_path, a=[7, 8], b=[5]), MASKED)
    examples: list[dict[str, Any]] = [
        {"id": "a", "input_ids": [1, 3, 7, 8, 2], "labels": [MASKED, MASKED, 7, 8, 2]},
        {"id": "x", "input_ids": [1, 5], "labels": [MASKED, 5]},
    ]
    batch = collate(examples)
    assert batch["teacher_known"].tolist() == [[False, False, True, True, False], [False] * 5]
    assert batch["teacher_tokens"][0, 2:4].tolist() == [[7, 8], [8, 9]]
    assert torch.allclose(batch["teacher_logprobs"][0, 2], torch.tensor([-0.1, -3.0]), atol=1e-3)
