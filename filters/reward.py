"""A reward model: a transformer with one output that scores a whole conversation, as RLHF trains it.

Any sequence classifier in safetensors does: with a chat template it reads the conversation, without one the question
and the answer as a pair of texts. One with several outputs gives the probability of the `output` named.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from filters.base import Context, SetFilter
from filters.verdicts import asked_in, defused
from pipeline import torch_model
from pipeline.component import Knob
from pipeline.errors import ModelError
from pipeline.records import Check, Record
from pipeline.torch_model import TorchModel

WINDOW = 512  # rows sorted by length together


class Reward(TorchModel, SetFilter):
    """Scores each conversation with a reward model and drops those under `min_score`."""

    bounds: ClassVar = (("min_score", "min"),)

    kind: Literal["reward"] = "reward"
    model: Annotated[str, Field(description="Hub id or local path of a sequence classifier")]
    min_score: Annotated[float, Field(description="lowest score that passes, in the model's own unit")] = 0.0
    output: Annotated[
        str, Field(description="of several outputs the name of the one whose probability is the score")
    ] = ""
    max_tokens: Annotated[
        int | None, Field(ge=1, description="longer conversations are not scored; the model's limit when left out")
    ] = None
    batch_tokens: Annotated[int, Knob(), Field(ge=1, description="tokens scored at once, padding included")] = 8192

    def sift(self, records: Iterable[Record], context: Context) -> Iterator[Check]:
        """One score per record; rows of like length are scored together."""
        rows = iter(records)
        scorer: Scorer | None = None
        try:
            while window := list(islice(rows, WINDOW)):
                scorer = scorer or Scorer(self)
                yield from map(self._check, scorer.scores(window))
        finally:
            if scorer is not None:
                scorer.close()

    def _check(self, score: "float | Unscored") -> Check:
        if isinstance(score, Unscored):
            return self.no(0, *score)
        if score < self.min_score:
            return self.no(score, "low_score", f"{score:.3g}, under {self.min_score:g}")
        return self.yes(score)


class Unscored(NamedTuple):
    """Why a conversation has no score."""

    reason: str
    detail: str


class Scorer:
    """A loaded reward model."""

    def __init__(self, rule: Reward) -> None:
        self._rule = rule
        self._model, self._tokenizer, missing = rule.load("AutoModelForSequenceClassification")
        if missing:
            raise ModelError(f"{rule.model} is no reward model: it has no weights for {', '.join(missing[:3])}")
        config = self._model.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None) or (1 << 30)
        self._limit = min(most, rule.max_tokens or most)
        self._own_pad = self._tokenizer.pad_token_id
        if self._own_pad in (None, self._tokenizer.eos_token_id, config.eos_token_id):
            self._own_pad = None  # the end of a row could not be told from its padding
        self._output = _output(self._model, rule)

    def scores(self, records: list[Record]) -> list[float | Unscored]:
        """A score for each record, in order."""
        rows = [self._ids(record) for record in records]
        found: list[float | Unscored] = [row if isinstance(row, Unscored) else 0.0 for row in rows]
        fit = [(n, ids) for n, ids in enumerate(rows) if isinstance(ids, list)]
        for batch in torch_model.batches([len(ids) for _, ids in fit], self._rule.batch_tokens):
            for row, score in zip(batch, self._forward([fit[row][1] for row in batch]), strict=True):
                found[fit[row][0]] = score
        return found

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._model = None
        torch_model.free()

    def _ids(self, record: Record) -> list[int] | Unscored:
        turns = [{"role": m.role, "content": defused(m.content)} for m in record.messages]
        try:
            if self._tokenizer.chat_template is None:
                ids = self._tokenizer(defused(asked_in(record)), defused(record.answer))["input_ids"]
            else:
                ids = self._tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        except Exception as error:  # a chat template is code of the model's maker: any error is its own
            return Unscored("no_verdict", f"chat template: {error}"[:300])
        if not ids:
            return Unscored("no_verdict", "the conversation has no tokens")
        if len(ids) > self._limit:
            return Unscored("over_model_limit", f"{len(ids):,} tokens; the model reads {self._limit:,}")
        return list(ids)

    def _forward(self, rows: list[list[int]]) -> list[float]:
        import torch

        pad = self._own_pad if self._own_pad is not None else _absent(rows)
        self._model.config.get_text_config().pad_token_id = pad
        width = max(map(len, rows))
        device = self._model.device
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask).logits.float()
        chosen = logits[:, 0] if self._output is None else logits.softmax(-1)[:, self._output]
        found: list[float] = chosen.tolist()
        return found


def _absent(rows: list[list[int]]) -> int:
    """A token that stands in none of the rows: the model finds their ends by it, and never looks at it."""
    used = {token for row in rows for token in row}
    return next(n for n in range(len(used) + 1) if n not in used)


def _output(model: Any, rule: Reward) -> int | None:
    """Which output is the score; None for a model with one. Raises ModelError."""
    names: dict[str, int] = {str(name): n for n, name in model.config.id2label.items()}
    if len(names) == 1 and not rule.output:
        return None
    if rule.output not in names:
        what = f"has no output {rule.output!r}" if rule.output else f"has {len(names)} outputs"
        raise ModelError(f"{rule.model} {what}", hint=f"set `output` to one of {', '.join(names)}")
    return names[rule.output]
