"""Formats that other trainers read. One file each; a new one is one line in `FORMATS`."""

from stages.formats.alpaca import Alpaca
from stages.formats.axolotl import Axolotl
from stages.formats.base import Format
from stages.formats.llama_factory import LlamaFactory
from stages.formats.messages import Messages
from stages.formats.openai import OpenAi
from stages.formats.parquet import Parquet
from stages.formats.preference import Preference
from stages.formats.prompt_completion import PromptCompletion
from stages.formats.sharegpt import ShareGpt

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Messages(), PromptCompletion(), ShareGpt(), Alpaca(), LlamaFactory(), Axolotl(), Parquet(), OpenAi(),
        Preference(),
    )
}  # fmt: skip
