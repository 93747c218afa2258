"""What can go wrong between the text of a row and the tokens that a trainer feeds: faults, each with a way out."""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from pipeline.engines import Engine
from pipeline.errors import ModelError
from pipeline.models import find
from stages.objectives.base import MASKED, Fed

OWN = "use another chat template: train.objective.config: {chat_template_path: FILE.jinja}"
SHIPPED = "use TRL's training template for this model: train.objective.config: {assistant_only_loss: true}"


class Fault(NamedTuple):
    """What is wrong with a row."""

    reason: str
    """a slug"""
    what: str
    hint: str
    refused: bool = True
    """False for what a person should know of, and may well want"""


def control_tokens(tokenizer: Any) -> frozenset[str]:
    """The tokens of a tokenizer that are no words: its special ones."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return frozenset(text for text in added | set(tokenizer.all_special_tokens) if text.strip())


def teacher_tokens(teacher: Engine | None) -> frozenset[str] | None:
    """The teacher's control tokens; None where its tokenizer is not on this machine."""
    from transformers import AutoTokenizer

    if teacher is None or teacher.remote:
        return None
    try:
        found = find(teacher.model, teacher.revision)
        more = {} if found.local or not teacher.revision else {"revision": teacher.revision}
        return control_tokens(AutoTokenizer.from_pretrained(found.where, local_files_only=True, **more))
    except (ModelError, OSError, ValueError, KeyError):
        return None


class Reader:
    """The student's tokenizer and chat template, as a trainer uses them; `teacher`: its teacher's control tokens."""

    def __init__(self, trainer: Any, teacher: Iterable[str] = ()) -> None:
        self.tokenizer = trainer.processing_class
        self.template: str | None = getattr(trainer, "chat_template", None)  # TRL's own in place of the tokenizer's
        self._trains_turns = hasattr(trainer.args, "assistant_only_loss")
        self.ends = _ends(self.tokenizer, trainer.model.generation_config)
        own = control_tokens(self.tokenizer)
        self._own, self._foreign = _any_of(own), _any_of(frozenset(teacher) - own)
        self._special = frozenset(self.tokenizer.convert_tokens_to_ids(sorted(own)))
        self._blank: dict[int, bool] = {}

    def faults(self, row: dict[str, Any], fed: Fed) -> Iterator[Fault]:
        """All of one row: `fed` is not cut."""
        yield from self._control(row, fed)
        if all(label == MASKED for label in fed.labels):
            yield Fault("nothing_trained", "every token is masked, so nothing of it is learned", OWN)
            return
        prompt = self._render(row["prompt"], self.template, add_generation_prompt=True)
        shared = _shared(prompt, fed.ids)
        lost, instead = self.tokenizer.decode(prompt[shared:]), self.tokenizer.decode(fed.ids[shared:])
        if lost and instead.startswith(lost):
            what = f"{lost!r} at the end of the prompt makes one token with what the answer begins with"
            yield Fault("prompt_merged", what, "", refused=False)
        elif lost:
            what = (
                f"the chat template is not prefix-preserving: {lost!r} ends the prompt, and is gone before the answer"
            )
            yield Fault("prompt_rewritten", what, self._way_out(row))
        yield from self._answer(row, fed)
        yield from self._turns(row, fed, shared)
        yield from self._end(row, fed)

    def pieces(self, fed: Fed) -> list[tuple[str, bool]]:
        """The text in stretches that are trained (True) or masked."""
        return [(self.tokenizer.decode(ids), trained) for ids, trained in _stretches(fed)]

    def _control(self, row: dict[str, Any], fed: Fed) -> Iterator[Fault]:
        """Control tokens written out in the text."""
        text = "\n".join(_contents(row, fed))
        for reason, pattern, why in (
            ("control_token", self._own, "the student reads it as a control token, not as text"),
            ("teacher_token", self._foreign, "a control token of the teacher, which is plain text to the student"),
        ):
            if pattern is not None and (found := pattern.search(text)):
                hint = f"drop such rows: filter.rules: [{{kind: words, banned: ['{found[0]}']}}]"
                yield Fault(reason, f"its text holds {found[0]}: {why}", hint)

    def _answer(self, row: dict[str, Any], fed: Fed) -> Iterator[Fault]:
        """An answer of which the template leaves something out."""
        said = _squeezed(self.tokenizer.decode(fed.ids))
        answers = _contents({column: turns for column, turns in row.items() if column != "prompt"}, fed)
        whole = (self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in answers)
        if not any(_squeezed(self.tokenizer.decode(ids)) in said for ids in whole):
            trained = next(self.tokenizer.decode(ids) for ids, on in _stretches(fed) if on)
            what = f"the chat template changes the answer: it begins with {trained[:60]!r}"
            yield Fault("answer_rewritten", what, OWN)

    def _turns(self, row: dict[str, Any], fed: Fed, prompt: int) -> Iterator[Fault]:
        """An earlier answer that is not written as it was when it came last."""
        if not (lost := self._lost(row["prompt"], fed.ids, self.template)):
            return
        what = f"the chat template is not prefix-preserving: an earlier answer ended {lost!r} when it came last"
        if any(label != MASKED for label in fed.labels[:prompt]):
            yield Fault("turn_rewritten", f"{what}, and is trained otherwise", self._way_out(row))
        else:
            yield Fault("turn_shortened", f"{what}; earlier answers are not trained", "", refused=False)

    def _lost(self, turns: list[dict[str, str]], ids: list[int], template: str | None) -> str:
        """What an answer among `turns` has when it comes last and not in `ids`; ends of turns do not count."""
        for n, turn in enumerate(turns, 1):
            if turn["role"] != "assistant":
                continue
            alone = self._render(turns[:n], template)
            rest = alone[_shared(alone, ids) :]
            if any(token not in self._special and not self._is_blank(token) for token in rest):
                return str(self.tokenizer.decode(rest))
        return ""

    def _end(self, row: dict[str, Any], fed: Fed) -> Iterator[Fault]:
        """Trained stretches that end without a token at which the student would stop."""
        for ids, trained in _stretches(fed):
            if not trained or (last := self._last(ids)) in self.ends:
                continue
            text = self.tokenizer.decode(ids[-1:] if last is None else [last])
            ends = " or ".join(self.tokenizer.decode([token]) for token in sorted(self.ends)) or "none is known"
            what = f"no end of turn is trained: what is learned ends with {text!r}, the student stops at {ends}"
            if last in self._special:
                hint = f"tell the student to stop there: train.objective.config: {{eos_token: '{text}'}}"
            else:
                hint = self._way_out(row)
            yield Fault("no_end_of_turn", what, hint)
            return

    @cached_property
    def _shipped(self) -> str | None:
        """TRL's training template for the student's family, where it has one and it is not in use."""
        from trl.chat_template_utils import get_training_chat_template

        try:
            takes_it = self.template is None and self._trains_turns
            return get_training_chat_template(self.tokenizer) if takes_it else None
        except ValueError:  # a template TRL has not seen
            return None

    def _way_out(self, row: dict[str, Any]) -> str:
        """Which template to use: TRL's where this row has no fault with it."""
        template = self._shipped
        if template is None:
            return OWN
        prompt = self._render(row["prompt"], template, add_generation_prompt=True)
        turns = [*row["prompt"], {"role": "assistant", "content": "yes"}]
        whole = self.tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        trained = [token for token, on in zip(whole["input_ids"], whole["assistant_masks"], strict=True) if on]
        preserving = whole["input_ids"][: len(prompt)] == prompt and not self._lost(turns, whole["input_ids"], template)
        return SHIPPED if preserving and self._last(trained) in self.ends else OWN

    def _render(self, turns: list[dict[str, str]], template: str | None, **more: Any) -> list[int]:
        found = self.tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=True, return_dict=True, **more
        )
        return list(found["input_ids"])

    def _last(self, ids: list[int]) -> int | None:
        """The last token that is not blank."""
        return next((token for token in reversed(ids) if not self._is_blank(token)), None)

    def _is_blank(self, token: int) -> bool:
        if token not in self._blank:
            self._blank[token] = not self.tokenizer.decode([token]).strip()
        return self._blank[token]


def _ends(tokenizer: Any, generation: Any) -> frozenset[int]:
    """The tokens at which generation stops."""
    more = generation.eos_token_id if generation is not None else None
    found = [tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])]
    return frozenset(token for token in found if token is not None)


def _any_of(tokens: frozenset[str]) -> re.Pattern[str] | None:
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first))) if tokens else None


def _contents(row: dict[str, Any], fed: Fed) -> Iterator[str]:
    """The texts of all turns of a row that are in one sequence of it, whatever its columns are called."""
    for column, value in row.items():
        here = not fed.of or column in ("prompt", fed.of)
        if here and isinstance(value, list) and value and isinstance(value[0], dict):
            yield from (turn["content"] for turn in value)


def _squeezed(text: str) -> str:
    """Without white space, which templates trim and tokenizers tidy."""
    return "".join(text.split())


def _shared(ids: list[int], others: list[int]) -> int:
    from trl.data_utils import common_prefix_length

    return int(common_prefix_length(ids, others))


def _stretches(fed: Fed) -> Iterator[tuple[list[int], bool]]:
    """Runs of tokens that are all trained, or all masked."""
    start = 0
    for n in range(1, len(fed.ids) + 1):
        trained = fed.labels[start] != MASKED
        if n == len(fed.ids) or (fed.labels[n] != MASKED) != trained:
            yield fed.ids[start:n], trained
            start = n
