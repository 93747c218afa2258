"""What of a record is embedded, and with which sentence-transformers model."""

from functools import cached_property
from typing import Annotated, Any, Literal

from jinja2 import Template, TemplateError
from pydantic import Field, model_validator

import prompts
from pipeline.embedder import Embedder
from pipeline.errors import UsageError
from pipeline.records import Record
from stages.spaces import Space

NAMES = frozenset({"prompt", "answer", "reasoning", "task", "meta", "messages"})


class Embed(Embedder, Space):
    """Records by the meaning of their text."""

    text: Annotated[Literal["prompt", "answer", "both"], Field(description="what of a record is embedded")] = "answer"
    template: Annotated[
        str,
        Field(description="in place of `text`, a Jinja template of prompt, answer, reasoning, task, meta, messages"),
    ] = ""

    @model_validator(mode="after")
    def _compiles(self) -> "Embed":
        if self.template:
            if "text" in self.model_fields_set:
                raise ValueError("give `text` or `template`, not both")
            prompts.inline(self.template, NAMES)
        return self

    def meaning(self) -> dict[str, Any]:
        """The model and how it is run: which part of a record it reads is in the text."""
        return {k: v for k, v in self.identity().items() if k not in ("text", "template")}

    def of(self, record: Record) -> str:
        """The text that is embedded. Raises UsageError where the template fails."""
        if self.template:
            return self._filled(record)
        both = f"{record.prompt}\n{record.answer}"
        return {"prompt": record.prompt, "answer": record.answer, "both": both}[self.text]

    @cached_property
    def _template(self) -> Template:
        return prompts.inline(self.template, NAMES)

    def _filled(self, record: Record) -> str:
        values = {name: getattr(record, name) for name in NAMES - {"messages"}}
        values["messages"] = [m.model_dump() for m in record.messages]
        try:
            return self._template.render(values)
        except TemplateError as error:
            raise UsageError(f"curate.embed.template: record {record.id}: {error.message}") from error
