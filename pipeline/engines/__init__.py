"""Engines: who answers. One file each; a new one is one line in `AnyEngine`."""

from typing import Annotated

from pydantic import Field

from pipeline.engines.base import Answered, Completion, Engine, Request, Sampling, Session
from pipeline.engines.openai import OpenAI
from pipeline.engines.replay import Replay
from pipeline.engines.transformers import Transformers
from pipeline.engines.vllm import Vllm

AnyEngine = Annotated[OpenAI | Replay | Transformers | Vllm, Field(discriminator="kind")]

__all__ = ["Answered", "AnyEngine", "Completion", "Engine", "Request", "Sampling", "Session"]
