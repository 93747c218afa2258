"""What a causal language model makes of texts: the loss of each, in batches of like length."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from filters.base import SetFilter
from pipeline import console, machine, models
from pipeline.component import Knob
from pipeline.errors import ModelError
from pipeline.records import Record

WINDOW = 256  # records sorted by length together
LONGEST_TOKEN = 32  # characters: texts are cut to so many times max_tokens before they are tokenized


class Span(NamedTuple):
    """Tokens a model reads, and from where on they count."""

    ids: list[int]
    start: int


class CausalRule(SetFilter):
    """What rules over a causal model share."""

    model: Annotated[str, Field(description="Hub id, local path or demo: name of a causal language model")]
    revision: str = ""
    max_tokens: Annotated[int, Field(ge=8, description="of a longer text the first so many tokens are measured")] = 1024
    dtype: Annotated[str, Field(description="auto, float32, bfloat16...; auto is float32 on a CPU")] = "auto"
    batch_tokens: Annotated[int, Knob(), Field(ge=1, description="tokens read at once, padding included")] = 2048

    def identity(self) -> dict[str, Any]:
        """A model in a folder counts by its content."""
        try:
            return super().identity() | {"weights": models.find(self.model, self.revision).revision}
        except ModelError:  # not there; said when it is needed
            return super().identity()

    def weights(self) -> list[tuple[str, str]]:
        """The model."""
        return [(self.model, self.revision)]


class Reader:
    """A loaded model and its tokenizer."""

    def __init__(self, rule: CausalRule) -> None:
        self._rule = rule
        self._model, self._tokenizer = _load(rule)
        most = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or rule.max_tokens
        self._limit = min(rule.max_tokens, most)
        start = self._tokenizer.bos_token_id
        start = self._tokenizer.eos_token_id if start is None else start
        self._begin = [] if start is None else [start]

    def close(self) -> None:
        """Drop the model and give its memory back."""
        import torch

        self._model = None
        gc.collect()
        torch.cuda.empty_cache()

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
        found = [(0.0, 0)] * len(spans)
        waiting = sorted((n for n, s in enumerate(spans) if len(s.ids) > s.start), key=lambda n: len(spans[n].ids))
        while waiting:
            size = max(1, self._rule.batch_tokens // len(spans[waiting[-1]].ids))
            batch, waiting = waiting[-size:], waiting[:-size]  # the longest first: too little memory shows at once
            for n, loss in zip(batch, self._forward([spans[n] for n in batch]), strict=True):
                found[n] = loss, len(spans[n].ids) - spans[n].start
        return found

    def _forward(self, spans: list[Span]) -> list[float]:
        import torch

        width = max(len(span.ids) for span in spans)
        device = self._model.device
        ids = torch.tensor([span.ids + [0] * (width - len(span.ids)) for span in spans], device=device)
        mask = torch.tensor([[1] * len(s.ids) + [0] * (width - len(s.ids)) for s in spans], device=device)
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            losses = []
            for row, span in enumerate(spans):  # one by one: a copy of all logits in float32 would be large
                scores = logits[row, span.start - 1 : len(span.ids) - 1].float()
                target = ids[row, span.start : len(span.ids)]
                losses.append(float(torch.nn.functional.cross_entropy(scores, target, reduction="sum")))
        return losses


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


def _load(rule: CausalRule) -> tuple[Any, Any]:
    """Model and tokenizer, on the GPU where there is one. Raises ModelError."""
    found = models.ensure(rule.model, rule.revision)
    dtype = "float32" if rule.dtype == "auto" and not machine.gpus() else rule.dtype
    if not machine.gpus():
        models.refuse_too_large(found, dtype)
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        hint = "pip install 'pipeline[transformers]'"
        raise ModelError(f"transformers is not installed ({error})", hint=hint) from error
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ModelError(f"no such dtype: {dtype}", hint="auto, float32, bfloat16 or float16")
    where = {"trust_remote_code": False} | ({} if found.local or not rule.revision else {"revision": rule.revision})
    try:
        with console.silenced(None):
            tokenizer = AutoTokenizer.from_pretrained(found.where, **where)
            model = AutoModelForCausalLM.from_pretrained(found.where, dtype=dtype, use_safetensors=True, **where)
    except (OSError, ValueError, KeyError, RuntimeError, MemoryError, ImportError) as error:
        raise ModelError(f"transformers cannot load {rule.model}: {' '.join(str(error).split())[:400]}") from error
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer
