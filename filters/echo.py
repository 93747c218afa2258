"""The answer repeats the instruction instead of following it."""

from typing import Annotated, Literal

from pydantic import Field

from filters.base import Filter
from filters.text import normal
from pipeline.records import Check, Record


class Echo(Filter):
    """Drops answers that hold the instruction's first characters, white space and case aside."""

    kind: Literal["echo"] = "echo"
    prefix_chars: Annotated[int, Field(ge=5, description="how many characters of the instruction count")] = 20

    def judge(self, record: Record) -> Check:
        """How much of the instruction's beginning stands in the answer, in characters."""
        prompt, answer = normal(record.prompt), normal(record.answer)
        prefix = prompt[: self.prefix_chars]
        if len(prefix) == self.prefix_chars and prefix in answer:
            return self.no(_common(prompt, answer), "repeats_instruction", f"holds {prefix!r}")
        return self.yes(0)


def _common(prompt: str, answer: str) -> int:
    """Length of the longest prefix of the prompt that stands in the answer."""
    low, high = 0, len(prompt)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if prompt[:middle] in answer else (low, middle - 1)
    return low
