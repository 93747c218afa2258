"""A reasoning model's thinking, apart from what it says.

Servers may give it in a field of its own; else it stands before the text, between `<think>` and `</think>`. Some
chat templates write the opening tag into the prompt, so that the answer begins in the middle of the thinking.
"""

from pipeline.engines import Completion

OPEN, CLOSE = "<think>", "</think>"


def apart(completion: Completion) -> Completion:
    """The completion with its thinking in `reasoning`. Tags further on, in code or a quotation, are text."""
    text = completion.text
    begun = text.lstrip().startswith(OPEN)
    before, closed, after = text.partition(CLOSE)
    if not begun and (not closed or OPEN in before):
        return completion
    thinking = before.lstrip().removeprefix(OPEN).strip()
    whole = "\n\n".join(part for part in (completion.reasoning, thinking) if part)
    return completion.model_copy(update={"text": after.strip() if closed else "", "reasoning": whole})
