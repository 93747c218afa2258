"""A loaded transformers model that answers requests in batches.

Rows of like length start together, left-padded; one that ends makes room, and new ones join while the others go on.
transformers' own continuous batching is not used: it keeps one random state for all requests, knows neither penalties
nor log-probabilities, and decoded a third as fast on a CPU.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline import console, torch_model
from pipeline.engines.base import Answered, Completion, Request, Source
from pipeline.engines.chat import token_ids
from pipeline.engines.exhausted import out_of_memory
from pipeline.engines.sampler import Grammars, Row
from pipeline.engines.transformers_batch import Batch
from pipeline.errors import ModelError

WINDOW = 4  # batches' worth of requests sorted by length together
REFILL = 4  # newcomers start together once they are a quarter of those under way: each start costs a step


class TransformersSession:
    """An open engine: an iterator over requests feeds it, finished answers come out at once."""

    def __init__(self, model: Any, tokenizer: Any, max_model_len: int, batch_tokens: int, log: Path | None) -> None:
        self._model, self._tokenizer, self._log = model, tokenizer, log
        self._limit, self._budget = max_model_len, batch_tokens
        ends = model.generation_config.eos_token_id
        told = ends if isinstance(ends, list) else [ends]
        self._ends = frozenset(end for end in (*told, tokenizer.eos_token_id) if end is not None)
        self._grammars: Grammars | None = None

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """Decode as many at once as `batch_tokens` allows; yield answers as they end.

        Several calls may be under way at once: each has its own batch.
        """
        source, batch = Source(requests), Batch(self._model)
        waiting: list[Row] = []
        while True:
            refused = [] if waiting else self._pull(source, waiting)
            if refused or not (waiting or batch.rows):
                yield refused
            if not (waiting or batch.rows):
                if source.exhausted:
                    return
                continue
            with console.silenced(self._log):
                over = self._decode(batch, waiting)
            if over:
                yield [Answered(row.request, row.completion()) for row in over]

    def close(self) -> None:
        """Drop the model and give its memory back."""
        if self._model is None:
            return
        self._model = self._grammars = None
        torch_model.free()

    def _pull(self, source: Source, waiting: list[Row]) -> list[Answered]:
        """The next window of requests, shortest first; those that cannot be asked come back, failed."""
        refused: list[Answered] = []
        tokens = 0
        while tokens < WINDOW * self._budget and (request := source.next()) is not None:
            row = self._row(request)
            if isinstance(row, str):
                refused.append(Answered(request, Completion(error=row)))
            else:
                waiting.append(row)
                tokens += row.length + row.left
        waiting.sort(key=lambda row: row.length)
        return refused

    def _row(self, request: Request) -> Row | str:
        """A request ready to be answered, or what is wrong with it."""
        try:
            ids = token_ids(self._tokenizer, request)
        except Exception as error:  # a chat template is code of the model's maker: any error is its own
            return f"chat template: {error}"
        if not ids:
            return "the prompt has no tokens"
        if len(ids) + request.sampling.max_tokens > self._limit:
            return (
                f"a prompt of {len(ids)} tokens and max_tokens {request.sampling.max_tokens} "
                f"pass max_model_len {self._limit}"
            )
        if "" in request.sampling.stop:
            return "a stop string is empty"
        matcher = None
        if request.choices or request.json_schema is not None:
            if self._grammars is None:
                vocabulary = self._model.config.get_text_config().vocab_size
                self._grammars = Grammars(self._tokenizer, vocabulary, self._ends)
            try:
                matcher = self._grammars.matcher(request)
            except Exception as error:  # xgrammar raises its own kinds, and RuntimeError from native code
                return f"choices or json_schema: {' '.join(str(error).split())[:400]}"
        return Row(request, ids, matcher, self._ends, self._tokenizer)

    def _decode(self, batch: Batch, waiting: list[Row]) -> list[Row]:
        """Let newcomers in, decode one token of everything, and give what is over."""
        newcomers = self._newcomers(batch, waiting)
        del waiting[: len(newcomers)]
        try:
            if newcomers:
                batch.add(newcomers)
            if batch.rows:
                batch.step()
            return batch.taken()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                why = " ".join(str(error).split())[:300]
                raise ModelError(
                    f"transformers failed while it decoded {len(batch.rows)} requests: {why}",
                    hint="the same command goes on from what was answered",
                ) from error
        return self._halve(batch, newcomers, waiting)  # outside of `except`: its traceback holds the tensors

    def _newcomers(self, batch: Batch, waiting: list[Row]) -> list[Row]:
        """The first of those who wait, as many as fit beside those under way."""
        if batch.rows and not batch.joinable:
            return []
        going = len(batch.rows)
        length = max((row.length for row in batch.rows), default=0)
        left = max((row.left for row in batch.rows), default=0)
        count = 0
        for row in waiting:
            length, left = max(length, row.length), max(left, row.left)
            if (going + count + 1) * (length + left) > self._budget and going + count:
                break
            count += 1
        return waiting[:count] if count >= min(len(waiting), going // REFILL) else []

    def _halve(self, batch: Batch, newcomers: list[Row], waiting: list[Row]) -> list[Row]:
        """After running out of memory: half as many at once from here on; one alone fails."""
        import torch

        rows = [row for row in dict.fromkeys((*batch.rows, *newcomers)) if not row.over]
        batch.clear()
        torch.cuda.empty_cache()
        if len(rows) <= 1:
            for row in rows:
                row.error = f"out of memory, alone: a prompt of {len(row.prompt)} tokens, {row.left} more to come"
            return [*batch.taken(), *rows]
        self._budget = _room(rows) // 2
        console.warn(f"out of memory with {len(rows)} answers under way: going on with batch_tokens {self._budget}")
        waiting[:0] = sorted(rows, key=lambda row: row.length)
        return batch.taken()


def _room(rows: list[Row]) -> int:
    """Tokens of keys and values these rows take together when the longest is full."""
    return len(rows) * (max(row.length for row in rows) + max(row.left for row in rows))
