"""What a causal language model makes of texts: the loss of each, in batches of like length."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from filters.base import SetFilter
from pipeline import torch_model
from pipeline.component import Knob
from pipeline.records import Record
from pipeline.torch_model import TorchModel

WINDOW = 256  # records sorted by length together
LONGEST_TOKEN = 32  # characters: texts are cut to so many times max_tokens before they are tokenized


class Span(NamedTuple):
    """Tokens a model reads, and from where on they count."""

    ids: list[int]
    start: int


class CausalModel(TorchModel):
    """A causal language model, and how much of a text it reads."""

    model: Annotated[str, Field(description="Hub id, local path or demo: name of a causal language model")]
    max_tokens: Annotated[int, Field(ge=8, description="of a longer text the first so many tokens are measured")] = 1024
    batch_tokens: Annotated[int, Knob(), Field(ge=1, description="tokens read at once, padding included")] = 2048


class CausalRule(CausalModel, SetFilter):
    """What rules over a causal model share."""


class Reader:
    """A loaded model and its tokenizer."""

    def __init__(self, settings: CausalModel) -> None:
        self._settings = settings
        self._model, self._tokenizer, _ = settings.load("AutoModelForCausalLM")
        most = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or settings.max_tokens
        self._limit = min(settings.max_tokens, most)
        start = self._tokenizer.bos_token_id
        start = self._tokenizer.eos_token_id if start is None else start
        self._begin = [] if start is None else [start]

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._model = None
        torch_model.free()

    def tokens(self, text: str) -> list[int]:
        """A text's own tokens, without any that open or close a sequence."""
        cut = text[: self._limit * LONGEST_TOKEN]
        return list(self._tokenizer(cut, add_special_tokens=False, verbose=False)["input_ids"])

    def alone(self, tokens: list[int]) -> Span:
        """A text by itself, after the mark that opens a sequence."""
        return Span([*self._begin, *tokens][: self._limit], max(1, len(self._begin)))

    def after(self, turns: list[dict[str, str]], tokens: list[int]) -> Span:
        """An answer to a conversation; of one that is too long for the model the end, in half of its room at least."""
        before = self._asked(turns)
        tokens = tokens[: self._limit - min(len(before), self._limit // 2)]
        before = before[max(0, len(before) + len(tokens) - self._limit) :]
        return Span([*before, *tokens], max(1, len(before)))

    def pair(self, turns: list[dict[str, str]], tokens: list[int]) -> tuple[Span, Span]:
        """An answer to a conversation and by itself, of which the same tokens count."""
        given = self.after(turns, tokens)
        alone = self.alone(given.ids[given.start :])
        return given._replace(start=given.start + alone.start - len(self._begin)), alone

    def _asked(self, turns: list[dict[str, str]]) -> list[int]:
        cut = [turn | {"content": turn["content"][-self._limit * LONGEST_TOKEN :]} for turn in turns]
        if self._tokenizer.chat_template is not None and cut:
            from jinja2 import TemplateError

            try:
                return list(
                    self._tokenizer.apply_chat_template(
                        cut, add_generation_prompt=True, tokenize=True, return_dict=False
                    )
                )
            except TemplateError:  # a conversation of a shape that the template refuses: read as plain text
                pass
        return self._begin + self.tokens("".join(turn["content"] + "\n\n" for turn in cut))

    def losses(self, spans: Sequence[Span]) -> list[tuple[float, int]]:
        """For each span the cross-entropy in nats summed over the tokens that count, and their number."""
        import torch

        found = [(0.0, 0)] * len(spans)
        for rows in self.batches(spans):
            for n, (logits, targets) in zip(rows, self.logits([spans[n] for n in rows]), strict=True):
                loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
                found[n] = float(loss), len(targets)
        return found

    def batches(self, spans: Sequence[Span]) -> Iterator[list[int]]:
        """Indices of the spans with tokens that count, so many at once as may be read together."""
        count = [n for n, span in enumerate(spans) if len(span.ids) > span.start]
        for batch in torch_model.batches([len(spans[n].ids) for n in count], self._settings.batch_tokens):
            yield [count[n] for n in batch]

    def logits(self, spans: list[Span]) -> Iterator[tuple[Any, Any]]:
        """For each span what is predicted for its T tokens that count, (T, V) in float32, and the tokens, (T,)."""
        import torch

        width = max(len(span.ids) for span in spans)
        device = self._model.device
        ids = torch.tensor([span.ids + [0] * (width - len(span.ids)) for span in spans], device=device)
        mask = torch.tensor([[1] * len(s.ids) + [0] * (width - len(s.ids)) for s in spans], device=device)
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for row, span in enumerate(spans):  # one by one: a copy of all logits in float32 would be large
            yield logits[row, span.start - 1 : len(span.ids) - 1].float(), ids[row, span.start : len(span.ids)]


def windows(records: Iterable[Record], rule: CausalRule) -> Iterator[tuple[list[Record], Reader]]:
    """The records in windows, with the model, which is loaded for the first and freed after the last."""
    rows = iter(records)
    reader: Reader | None = None
    try:
        while window := list(islice(rows, WINDOW)):
            reader = reader or Reader(rule)
            yield window, reader
    finally:
        if reader is not None:
            reader.close()


def asked(record: Record) -> list[dict[str, str]]:
    """The turns that the last answer answers."""
    turns = [turn.model_dump() for turn in record.messages]
    last = max((n for n, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    return turns[:last]
