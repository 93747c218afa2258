"""What an engine is: requests in, completions out, every request answered exactly once.

An engine owns batching and concurrency; nothing above it is async. Its `open` loads the model and gives
a `Session`. What identifies its words (model, revision, dtype...) goes into every memo key; what only
makes it faster does not.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from pipeline.component import Component, Knob
from pipeline.engines.trace import Trace
from pipeline.records import Message, digest

KEY_SCHEME = 2


class Sampling(Component):
    """How the next token is drawn; names and meaning as in vLLM's SamplingParams."""

    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    max_tokens: int = Field(512, ge=1)
    repetition_penalty: float = Field(1.0, gt=0)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    stop: tuple[str, ...] = ()


class Price(Component):
    """What a million tokens cost, in whatever currency the plan's budget is in."""

    prompt: float = Field(0.0, ge=0)
    completion: float = Field(0.0, ge=0)

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The cost of so many tokens."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


class Request(BaseModel):
    """One question to a model. `id` is the caller's handle and no part of the key.

    `logprobs`: alternatives wanted for the first token; `top_logprobs`: for every token (see `Trace`).
    `open_user`: the model writes the user's turn that follows `messages` (Magpie), not an answer.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    seed: int = 0
    sample: int = 0
    choices: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None
    logprobs: int = 0
    top_logprobs: int = 0
    open_user: bool = False
    chat_template_kwargs: dict[str, Any] = {}

    def key(self, engine: dict[str, str]) -> str:
        """Digest of everything that shapes the answer but `max_tokens`, under a versioned scheme.

        An answer that ended by itself is the same under every `max_tokens` that lets it: the memo sees to that. What
        has its default value is left out, so that a new setting leaves older keys as they are.
        """
        asked = self.model_dump(exclude={"id": True, "sampling": {"max_tokens"}}, exclude_defaults=True)
        return digest({"scheme": KEY_SCHEME, "engine": engine, "request": asked}, 32)


class Completion(BaseModel):
    """A model's answer. With `error` set there is no answer, and it is not remembered.

    `reasoning`: the thinking that a server gives apart from the text. `logprobs`: for the first generated token, the
    log-probability of each alternative by its text. `trace`: for every token, where `top_logprobs` asked for it.
    """

    model_config = ConfigDict(frozen=True)

    text: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: dict[str, float] = {}
    trace: Trace | None = None
    error: str = ""

    def serves(self, asked_under: int, max_tokens: int) -> bool:
        """Whether an answer given under one `max_tokens` is the answer under another: it ended by itself in time."""
        ended = self.finish_reason == "stop" and self.completion_tokens <= max_tokens
        return asked_under == max_tokens or ended


class Answered(NamedTuple):
    """A request with its completion."""

    request: Request
    completion: Completion


class Source:
    """Requests to be pulled: the next one, or None where there is none at the moment or none at all."""

    def __init__(self, requests: Iterable[Request | None]) -> None:
        self._requests = iter(requests)
        self.exhausted = False

    def next(self) -> Request | None:
        """The next request. None and `exhausted` when that was all."""
        try:
            return next(self._requests)
        except StopIteration:
            self.exhausted = True
            return None


class Session(Protocol):
    """An open engine."""

    def complete(self, requests: Iterable[Request | None]) -> Iterator[list[Answered]]:
        """Answer every request once, in any order, pulling new ones as capacity frees up.

        What has finished by now comes as one list, so that it can be made durable in one write. None among the
        requests means "none at the moment": the session goes on with what is under way and asks again afterwards;
        with nothing under way it yields an empty list first, for the next request may hang on what the caller holds.
        """
        ...

    def close(self) -> None:
        """Free memory and processes; safe to call twice."""
        ...


class Engine(Component):
    """Base of the engines; `model` is a Hub id, a local path or a bundled `demo:` name."""

    remote: ClassVar[bool] = False
    """Whether the model's weights are on a server, out of reach."""

    model: str
    revision: Annotated[str, Field(description="Hub revision, or leave empty")] = ""
    licence: Annotated[str, Field(description="the model's licence where its files do not say")] = ""
    price: Annotated[Price, Knob(), Field(description="per million tokens: {prompt: 0.5, completion: 1.5}")] = Price()

    def identity(self) -> dict[str, Any]:
        """What shapes the output: the engine's words, and the licence that is written beside them."""
        return {**self.words(), "licence": self.licence}

    def weights(self) -> list[tuple[str, str]]:
        """Names and revisions of the models that have to be on this machine."""
        return [(self.model, self.revision)]

    def refusal(self, request: Request) -> str:
        """Why the engine cannot take such a request, known before it is opened; "" where it can."""
        return ""

    @abstractmethod
    def words(self) -> dict[str, str]:
        """What identifies this engine's words in memo keys: engine kind, model, revision, dtype."""

    @abstractmethod
    def open(self, log: Path | None = None) -> Session:
        """Load the model; the library's own log lines go to `log`. Raises ModelError."""
