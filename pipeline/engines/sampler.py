"""From logits to one token a row, each row under its own settings, grammar and randomness.

The meaning of every setting, and the order in which they act, is vLLM's: grammar, log-probabilities, penalties,
temperature, min_p, top_k, top_p. No row's token depends on which other rows are drawn beside it.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.engines.base import Completion, Request
from pipeline.engines.trace import Trace
from pipeline.errors import ModelError

GREEDY = 1e-5  # temperatures under this are zero, as in vLLM
LIKELIEST = 512  # tokens sorted for top_p and top_k; the whole vocabulary only where these do not settle it


class Row:
    """One request being answered: its tokens so far, its text, and what ends it."""

    def __init__(self, request: Request, prompt: list[int], matcher: Any, ends: frozenset[int], tokenizer: Any) -> None:
        import torch
        from tokenizers.decoders import DecodeStream

        self.request, self.prompt, self.matcher = request, prompt, matcher
        self.answer: list[int] = []
        self.text = self.finish = self.error = ""
        self.first: dict[int, float] = {}
        self.chosen: list[float] = []
        self.top: list[list[tuple[int, float]]] = []
        self._ends, self._tokenizer = ends, tokenizer
        self._stream = DecodeStream(ids=prompt, skip_special_tokens=True)
        self.random = request.sampling.temperature >= GREEDY
        if self.random:  # drawn ahead, so that a row that starts again after running out of memory goes on the same
            own = torch.Generator().manual_seed(request.seed % (1 << 63))
            self._seeds = torch.randint(1 << 62, (request.sampling.max_tokens,), generator=own)

    @property
    def ids(self) -> list[int]:
        """Prompt and answer so far."""
        return self.prompt + self.answer

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self.prompt) + len(self.answer)

    @property
    def left(self) -> int:
        """Tokens the answer may still take."""
        return self.request.sampling.max_tokens - len(self.answer)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to decode."""
        return bool(self.finish or self.error)

    @property
    def alternatives(self) -> int:
        """How many alternatives to the next token are asked for."""
        return max(self.request.top_logprobs, 0 if self.answer else self.request.logprobs)

    def seed(self) -> int:
        """What the next token is drawn with."""
        return int(self._seeds[len(self.answer)])

    def note(self, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
        """The next token's log-probability and its alternatives'."""
        if not self.answer:
            self.first = {token: logprob, **dict(top)}
        self.chosen.append(logprob)
        self.top.append(top)

    def take(self, token: int) -> None:
        """The next token: into the text, unless it ends the answer."""
        self.answer.append(token)
        if self.matcher is not None:
            self.matcher.accept_token(token)
        if token in self._ends or (self.matcher is not None and self.matcher.is_terminated()):
            self.finish = "stop"
            return
        before = len(self.text)
        self.text += self._decoded(token)
        cut = _stop_at(self.text, before, self.request.sampling.stop)
        if cut is not None:
            self.text, self.finish = self.text[:cut], "stop"
        elif self.left <= 0:
            self.finish = "length"

    def completion(self) -> Completion:
        """The answer."""
        if self.error:
            return Completion(error=self.error)
        first: dict[str, float] = {}
        for token, logprob in self.first.items() if self.request.logprobs else ():
            text = self._tokenizer.decode([token])
            first[text] = max(logprob, first.get(text, logprob))
        k = self.request.top_logprobs
        return Completion(
            text=self.text,
            finish_reason=self.finish,
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.answer),
            logprobs={text: logprob for text, logprob in first.items() if logprob > -1e30},
            trace=Trace.pack(k, self.answer, self.chosen, self.top) if k else None,
        )

    def _decoded(self, token: int) -> str:
        """The text a token adds; bytes of an unfinished character wait for the rest."""
        from tokenizers.decoders import DecodeStream

        backend = self._tokenizer.backend_tokenizer
        try:
            return self._stream.step(backend, token) or ""
        except Exception:  # the stream loses its place in bytes that are no UTF-8: it begins anew, as vLLM's does
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(backend, token) or ""


def _stop_at(text: str, before: int, stops: Iterable[str]) -> int | None:
    """Where the stop string begins that is complete first, among those that the new characters complete."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop, max(0, before - len(stop) + 1))) >= 0]
    return min(found)[1] if found else None


class Grammars:
    """Choices and JSON schemas as matchers over one model's vocabulary, compiled once each by xgrammar."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: frozenset[int]) -> None:
        try:
            import xgrammar
        except ImportError as error:
            raise ModelError(
                f"choices and JSON schemas need xgrammar, which is not installed ({error})",
                hint="pip install 'pipeline[transformers]'",
            ) from error
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocabulary, stop_token_ids=sorted(ends) or None
        )
        self._compiler = xgrammar.GrammarCompiler(info)

    def matcher(self, request: Request) -> Any:
        """A fresh matcher. Whatever the compiler raises is the request's own fault."""
        from xgrammar import GrammarMatcher

        if request.choices:
            return GrammarMatcher(self._compiler.compile_grammar(_one_of(request.choices)))
        schema = self._compiler.compile_json_schema(
            request.json_schema or {}, any_whitespace=False, separators=(",", ":")
        )
        return GrammarMatcher(schema)


def _one_of(choices: Iterable[str]) -> str:
    """A grammar of these texts, every character written as its code point."""
    return "root ::= " + " | ".join('"' + "".join(f"\\U{ord(c):08x}" for c in choice) + '"' for choice in choices)


def advance(logits_B_V: Any, rows: list[Row]) -> None:  # noqa: N803
    """Give every row its next token; logits are float32 and are written over."""
    _mask(logits_B_V, rows)
    sound = logits_B_V.amax(-1).isfinite().tolist()
    wanted = [n for n, row in enumerate(rows) if row.alternatives]
    raw = logits_B_V[wanted].log_softmax(-1) if wanted else None
    _penalise(logits_B_V, rows)
    tokens = logits_B_V.argmax(-1)
    drawn = [n for n, row in enumerate(rows) if row.random and sound[n]]
    if drawn:
        tokens[drawn] = _draw(logits_B_V[drawn], [rows[n] for n in drawn])
    if wanted:
        _note(raw, [rows[n] for n in wanted], tokens[wanted])
    for row, token, usable in zip(rows, tokens.tolist(), sound, strict=True):
        if usable:
            row.take(token)
        else:
            row.error = "the model's logits are not finite numbers; another dtype may help"


def _mask(logits_B_V: Any, rows: list[Row]) -> None:  # noqa: N803
    """Make impossible what a row's grammar does not allow next."""
    bound = [n for n, row in enumerate(rows) if row.matcher is not None]
    if not bound:
        return
    import xgrammar

    allowed = xgrammar.allocate_token_bitmask(len(rows), logits_B_V.shape[-1])
    for n in bound:
        rows[n].matcher.fill_next_token_bitmask(allowed, n)
    xgrammar.apply_token_bitmask_inplace(logits_B_V, allowed.to(logits_B_V.device), indices=bound)


def _penalise(logits_B_V: Any, rows: list[Row]) -> None:  # noqa: N803
    """Repetition counts prompt and answer; presence and frequency the answer alone."""
    for logits_V, row in zip(logits_B_V, rows, strict=True):  # noqa: N806
        sampling = row.request.sampling
        if sampling.repetition_penalty != 1.0:
            seen = logits_V.new_tensor(sorted(set(row.ids))).long()
            value, factor = logits_V[seen], sampling.repetition_penalty
            logits_V[seen] = (value / factor).where(value > 0, value * factor)
        if row.answer and (sampling.presence_penalty or sampling.frequency_penalty):
            counts = Counter(row.answer)
            times = logits_V.new_tensor(list(counts.values()))
            seen = logits_V.new_tensor(list(counts)).long()
            logits_V[seen] -= sampling.frequency_penalty * times + sampling.presence_penalty


def _note(raw_N_V: Any, rows: list[Row], tokens_N: Any) -> None:  # noqa: N803
    most = min(max(row.alternatives for row in rows), raw_N_V.shape[-1])
    values, ids = (t.tolist() for t in raw_N_V.topk(most))
    chosen = raw_N_V.gather(-1, tokens_N[:, None])[:, 0].tolist()
    for row, token, logprob, v, i in zip(rows, tokens_N.tolist(), chosen, values, ids, strict=True):
        row.note(token, logprob, list(zip(i, v, strict=True))[: row.alternatives])


def _draw(logits_N_V: Any, rows: list[Row]) -> Any:  # noqa: N803
    """One token a row: the largest of p / e, where e is exponential noise from the row's own seed.

    That is a draw from p, and one that rounding in p hardly ever turns into another token. Looking a random number up
    in the cumulative sum is not: the errors of all likelier tokens add up there, and exceed the share of a rare one.
    """
    import torch

    settings = [row.request.sampling for row in rows]
    p = (logits_N_V / _column(logits_N_V, [s.temperature for s in settings])).softmax(-1)
    if any(s.min_p for s in settings):
        p *= p >= _column(p, [s.min_p for s in settings]) * p.amax(-1, keepdim=True)
    cut = [n for n, s in enumerate(settings) if s.top_p < 1 or s.top_k]
    if cut:
        top_k = _column(p, [settings[n].top_k or p.shape[-1] for n in cut])
        top_p = _column(p, [settings[n].top_p for n in cut])
        p[cut] *= p[cut] >= _floor(p[cut], top_k, top_p)
    noise = torch.empty_like(p)
    own = torch.Generator(device=p.device)
    for noise_of_row, row in zip(noise, rows, strict=True):
        noise_of_row.exponential_(generator=own.manual_seed(row.seed()))
    return (p / noise).argmax(-1)


def _column(like: Any, values: list[float]) -> Any:
    return like.new_tensor(values)[:, None]


def _floor(p_N_V: Any, top_k: Any, top_p: Any) -> Any:  # noqa: N803
    """The probability of the least likely token that top_k, then top_p, leave to each row; columns [N, 1]."""
    every = p_N_V.shape[-1]
    floor, settled = _floor_among(p_N_V, top_k, top_p, min(LIKELIEST, every))
    if not bool(settled.all()):
        rest = (~settled[:, 0]).nonzero()[:, 0]
        floor[rest] = _floor_among(p_N_V[rest], top_k[rest], top_p[rest], every)[0]
    return floor


def _floor_among(p_N_V: Any, top_k: Any, top_p: Any, count: int) -> tuple[Any, Any]:  # noqa: N803
    """The same where only the `count` likeliest are sorted, and whether that settles it."""
    import torch

    top = p_N_V.topk(count).values.double()
    keep = torch.arange(count, device=top.device) < top_k
    mass = torch.where(top_k > count, p_N_V.sum(-1, keepdim=True).double(), (top * keep).sum(-1, keepdim=True))
    keep &= top.cumsum(-1) - top < top_p * mass  # the token that reaches top_p is in
    floor = top.gather(-1, keep.sum(-1, keepdim=True).clamp(min=1) - 1).to(p_N_V.dtype)
    return floor, ~keep[:, -1:] if count < p_N_V.shape[-1] else torch.ones_like(keep[:, -1:])
