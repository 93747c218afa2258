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

from pipeline.component import Component
from pipeline.records import Message, digest

KEY_SCHEME = 1


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


class Request(BaseModel):
    """One question to a model. `id` is the caller's handle and no part of the key."""

    model_config = ConfigDict(frozen=True)

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    seed: int = 0
    sample: int = 0
    choices: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None
    logprobs: int = 0
    chat_template_kwargs: dict[str, Any] = {}

    def key(self, engine: dict[str, str]) -> str:
        """Digest of everything that shapes the answer, under a versioned scheme."""
        return digest({"scheme": KEY_SCHEME, "engine": engine, "request": self.model_dump(exclude={"id"})}, 32)


class Completion(BaseModel):
    """A model's answer. With `error` set there is no answer, and it is not remembered.

    `logprobs`: for the first generated token, the log-probability of each alternative by its text.
    """

    model_config = ConfigDict(frozen=True)

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: dict[str, float] = {}
    error: str = ""


class Answered(NamedTuple):
    """A request with its completion."""

    request: Request
    completion: Completion


class Session(Protocol):
    """An open engine."""

    def complete(self, requests: Iterable[Request]) -> Iterator[list[Answered]]:
        """Answer every request once, in any order, pulling new ones as capacity frees up.

        What has finished by now comes as one list, so that it can be made durable in one write.
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

    def identity(self) -> dict[str, Any]:
        """What shapes the output: the engine's words, and the licence that is written beside them."""
        return {**self.words(), "licence": self.licence}

    def weights(self) -> list[tuple[str, str]]:
        """Names and revisions of the models that have to be on this machine."""
        return [(self.model, self.revision)]

    @abstractmethod
    def words(self) -> dict[str, str]:
        """What identifies this engine's words in memo keys: engine kind, model, revision, dtype."""

    @abstractmethod
    def open(self, log: Path | None = None) -> Session:
        """Load the model; the library's own log lines go to `log`. Raises ModelError."""
