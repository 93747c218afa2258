"""From a request to the token ids a model reads, through the model's own chat template."""

from typing import Any

from pipeline.engines.base import Request

MARK = "\u2402\u2403"  # stands where the user's words would begin; no template changes it


def token_ids(tokenizer: Any, request: Request) -> list[int]:
    """The prompt of a request, ready for the model's turn (or, with `open_user`, for the user's words).

    A chat template is code of the model's maker: any exception may come out of it.
    """
    messages = [m.model_dump() for m in request.messages]
    if not request.open_user:
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False, **request.chat_template_kwargs
        )
        return list(ids)
    turns = [*messages, {"role": "user", "content": MARK}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, **request.chat_template_kwargs)
    head, mark, _ = text.partition(MARK)
    if not mark:
        raise ValueError("the chat template does not carry the user's words")
    return list(tokenizer(head, add_special_tokens=False)["input_ids"])
