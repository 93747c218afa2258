"""How well a form of a student agrees with the student, on rows it was trained on, and how fast it is read."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel

from stages.exporters.base import Finished, Reader

ROWS = 8
TOKENS = 160  # of a row, the first ones
PROMPTS = 2
ANSWER = 16  # tokens decoded one by one for each prompt


class Text(NamedTuple):
    """One row as tokens."""

    ids: list[int]
    prompt: list[int]
    """the row without its answer"""


class Agreement(BaseModel):
    """Against the student's own logits, at every token of the rows."""

    tokens: int
    largest: float
    """largest difference of a logit"""
    top1: float
    """share of tokens after which the same token is the likeliest"""
    kl: float
    """mean KL(student || form), nats"""


class Speed(BaseModel):
    """Tokens a second on this machine's CPU: of the row, and of the step, that were fastest.

    So what else the machine does at the time counts for less.
    """

    forward: float
    decode: float


def texts(student: Finished) -> list[Text]:
    """A few rows from all over `rows.jsonl`, as the chat template writes them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(student.model)
    rows = (student.version.path / "rows.jsonl").read_bytes().splitlines()
    picked = [rows[n * len(rows) // ROWS] for n in range(ROWS)] if len(rows) > ROWS else rows
    return [_text(tokenizer, _turns(orjson.loads(row))) for row in picked]


def _turns(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a row; of a preference the chosen ones."""
    turns: list[dict[str, Any]] = row.get("messages") or [
        *(row.get("prompt") or []),
        *(row.get("completion") or row.get("chosen") or []),
    ]
    return turns


def _text(tokenizer: Any, turns: list[dict[str, Any]]) -> Text:
    whole = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    asked = turns[:-1] or turns
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=False)
    return Text(list(whole)[:TOKENS], list(prompt)[:TOKENS])


class Original:
    """What the student itself says, kept in `folder` so that its weights need not stay in memory."""

    def __init__(self, reader: Reader, rows: list[Text], folder: Path) -> None:
        self.rows, self.folder = rows, folder
        self.speed = Speed(forward=self._forward(reader, self._keep), decode=self._decode(reader))

    def compare(self, reader: Reader, *, timed: bool) -> tuple[Agreement, Speed | None]:
        """A form against it, on the same rows; no speed where it is not `timed`."""
        import numpy as np

        found: list[tuple[float, int, float]] = []

        def look(n: int, logits: Any) -> None:
            found.append(_compare(np.load(self._file(n)), logits))

        forward = self._forward(reader, look)
        largest, same, kl = zip(*found, strict=True)
        tokens = sum(len(row.ids) for row in self.rows)
        agreed = Agreement(tokens=tokens, largest=max(largest), top1=sum(same) / tokens, kl=sum(kl) / tokens)
        return agreed, Speed(forward=forward, decode=self._decode(reader)) if timed else None

    def _keep(self, n: int, logits: Any) -> None:
        import numpy as np

        np.save(self._file(n), logits)

    def _file(self, n: int) -> Path:
        return self.folder / f"{n}.npy"

    def _forward(self, reader: Reader, look: Callable[[int, Any], None]) -> float:
        """Show `look` the logits of every row; tokens a second."""
        reader.read(self.rows[0].ids)  # what is done once is not counted
        rates = []
        for n, row in enumerate(self.rows):
            started = time.perf_counter()
            said = reader.read(row.ids)
            rates.append(len(row.ids) / (time.perf_counter() - started))
            look(n, said.logits)
        return max(rates)

    def _decode(self, reader: Reader) -> float:
        """Answer some prompts, likeliest token by likeliest token; tokens a second."""
        steps = []
        for row in self.rows[:PROMPTS]:
            said = reader.read(row.prompt)
            for _ in range(ANSWER):
                started = time.perf_counter()
                said = reader.read([int(said.logits[-1].argmax())], said.past)
                steps.append(time.perf_counter() - started)
        return 1 / min(steps)


def _compare(ours: Any, theirs: Any) -> tuple[float, int, float]:
    """Of two arrays of logits: largest difference, rows with the same maximum, summed KL(ours || theirs)."""
    import torch

    a, b = torch.from_numpy(ours), torch.from_numpy(theirs)
    same = (a.argmax(-1) == b.argmax(-1)).sum()
    logs = [logits.double().log_softmax(-1) for logits in (a, b)]
    return float((a - b).abs().max()), int(same), float((logs[0].exp() * (logs[0] - logs[1])).sum())
