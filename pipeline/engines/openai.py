"""Any OpenAI-compatible server: hosted APIs, `vllm serve`, llama.cpp, Ollama...

Here stands what is asked, and under which name; how a server is spoken to is `openai_session`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import Field

from pipeline.component import Knob
from pipeline.engines.base import Engine, Request
from pipeline.engines.openai_session import OpenAISession
from pipeline.errors import ModelError

PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
MODELS_OWN = ("top_k", "min_p", "repetition_penalty")  # vLLM's server takes them from the model's files when left out


class OpenAI(Engine):
    """An OpenAI-compatible server; the base URL and the key come from the environment."""

    remote: ClassVar[bool] = True

    kind: Literal["openai"] = "openai"
    base_url: Annotated[
        str, Knob(), Field(description="for example http://localhost:8000/v1; $OPENAI_BASE_URL when left out")
    ] = ""
    api_key_env: Annotated[str, Knob(), Field(description="the environment variable that holds the key")] = (
        "OPENAI_API_KEY"
    )
    concurrency: Annotated[int, Knob(), Field(ge=1, description="requests under way at once, at most")] = 64
    requests_per_minute: Annotated[float | None, Knob(), Field(gt=0, description="no limit when left out")] = None
    tokens_per_minute: Annotated[
        float | None, Knob(), Field(gt=0, description="prompt and answer; no limit when left out")
    ] = None
    timeout: Annotated[float, Knob(), Field(gt=0, description="seconds for one answer")] = 600.0
    retries: Annotated[int, Knob(), Field(ge=0, description="tries after the first")] = 6
    backoff: Annotated[float, Knob(), Field(gt=0, description="seconds; the first wait is at most this long")] = 1.0
    server: Annotated[
        Literal["openai", "vllm"],
        Field(description="vllm: choices are enforced, not only asked for, and tokens come with ids"),
    ] = "openai"
    max_tokens_field: Annotated[
        Literal["max_tokens", "max_completion_tokens"], Knob(), Field(description="the server's name for max_tokens")
    ] = "max_tokens"
    omit: Annotated[
        tuple[Literal["seed", "temperature", "top_p"], ...], Field(description="what the server does not take")
    ] = ()
    extra_body: Annotated[dict[str, Any], Field(description="further fields of the request, as they are")] = {}

    def weights(self) -> list[tuple[str, str]]:
        """None: they are on the server."""
        return []

    def words(self) -> dict[str, str]:
        """The model by name; who serves it does not count, what the requests carry besides does."""
        words = {"engine": "openai", "model": self.model, "revision": self.revision}
        if self.server != "openai":
            words["server"] = self.server
        if self.omit:
            words["omit"] = ",".join(sorted(self.omit))
        if self.extra_body:
            words["extra_body"] = orjson.dumps(self.extra_body, option=orjson.OPT_SORT_KEYS).decode()
        return words

    def open(self, log: Path | None = None) -> OpenAISession:
        """Nothing is sent yet."""
        url = (self.base_url or os.environ.get("OPENAI_BASE_URL", "")).rstrip("/")
        if not url:
            raise ModelError("no server is named", hint="set teacher.base_url or OPENAI_BASE_URL")
        if "@" in urlsplit(url).netloc:
            raise ModelError("the base URL holds a password", hint=f"put the key into ${self.api_key_env} instead")
        return OpenAISession(self, url, os.environ.get(self.api_key_env, "").strip())

    def refusal(self, request: Request) -> str:
        """Why this request cannot be put to such a server; "" where it can."""
        if request.open_user:
            return "a server writes the assistant's turn only; the user's needs an engine of kind vllm or transformers"
        if request.top_logprobs and self.server != "vllm":
            return "this server gives no token ids, which top_logprobs needs; set server: vllm where it is vLLM's"
        if request.top_logprobs and request.logprobs:
            return "a server gives tokens as ids or as texts, so not top_logprobs together with logprobs"
        return ""

    def body(self, request: Request) -> dict[str, Any]:
        """The request as a chat completion's body."""
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [m.model_dump() for m in request.messages],
            self.max_tokens_field: sampling.max_tokens,
        }
        given = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": request.seed}
        body |= {name: value for name, value in given.items() if name not in self.omit}
        if self.server == "vllm" and request.choices:
            body["structured_outputs"] = {"choice": list(request.choices)}
        elif request.json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": request.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        always = MODELS_OWN if self.server == "vllm" else ()
        further = {name: getattr(sampling, name) for name in PLAIN}
        body |= {name: value for name, value in further.items() if name in always or value != PLAIN[name]}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.top_logprobs:  # one more: vLLM counts the chosen token among them, likely or not
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs + 1, "return_tokens_as_token_ids": True}
        elif request.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.logprobs}
        if request.chat_template_kwargs:
            body["chat_template_kwargs"] = request.chat_template_kwargs
        return body | self.extra_body
