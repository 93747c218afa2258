"""TRL's DistillationTrainer, in which a share of the rows keeps the answer that it came with."""

import math
from typing import Any, NamedTuple

import torch
from transformers import Trainer
from trl import DistillationTrainer
from trl.data_utils import common_prefix_length

from pipeline import console
from stages.objectives.base import MASKED
from stages.trainers.positions import collate_also

STRANGERS = 0.9  # of the most that a divergence can be: from there on it hardly tells which way to go


class Answered(NamedTuple):
    """A prompt with its answer, as tokens."""

    prompt: list[int]
    answer: list[int]


class OnPolicyTrainer(DistillationTrainer):  # type: ignore[misc]  # TRL is not typed
    """One batch of the data loader is one optimizer step, worked through `at_once` rows at a time.

    TRL's own sampler leaves out the rows of an epoch that fill no whole step, and begins its order anew after a
    resume; this is the sampler of `transformers`, which does neither.
    """

    def __init__(self, *args: Any, own_share: float, at_once: int, max_length: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        collate_also(self, "input_ids", "labels")
        self.own_share, self.at_once, self.max_length = own_share, at_once, max_length
        self._given: list[Answered | None] = []
        self._told = False

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return Trainer._get_train_sampler(self, dataset)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """The loss of a step's rows: a sum over the tokens of their answers, divided by the number of those."""
        model.train()
        own = (torch.rand(len(inputs)) < self.own_share).tolist()
        self._metrics["train"]["own_answers"].append(sum(own) / len(own))
        parts = []
        for n in range(0, len(inputs), self.at_once):
            here = slice(n, n + self.at_once)
            self._given = [
                None if mine else self._answered(row) for row, mine in zip(inputs[here], own[here], strict=True)
            ]
            parts.append(self._generate_and_score_completions(inputs[here]))
        count = torch.stack([part["num_items_in_batch"] for part in parts]).sum()
        self._step, self.current_gradient_accumulation_steps = 0, len(parts)  # TRL takes the time of a step by them
        loss = torch.zeros((), device=self.args.device)
        for part in parts:
            loss = loss + super().training_step(model, part | {"num_items_in_batch": count}, count)
        self._tell(float(loss))
        return loss

    def _tell(self, loss: float) -> None:
        """Say so once if student and teacher have so little in common that there is no gradient between them."""
        if self._told or not 0 < self.beta < 1:
            return
        most = -self.beta * math.log(self.beta) - (1 - self.beta) * math.log1p(-self.beta)
        if loss > STRANGERS * most:
            console.warn(
                f"student and teacher are {loss:.3f} apart, and nothing is more than {most:.3f} at beta {self.beta:g}: "
                "there is hardly a gradient. Teach the student with sft first, or take beta 0"
            )
        self._told = True

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        return generation_batch  # `training_step` has made it

    def _answered(self, row: dict[str, Any]) -> Answered:
        """What a row came with, as the student would have written it: up to the first token that ends an answer."""
        ids = row["input_ids"][: self.max_length]
        start = next(n for n, label in enumerate(row["labels"]) if label != MASKED)
        stop = next((n + 1 for n in range(start, len(ids)) if ids[n] in self.eos_token_ids), len(ids))
        return Answered(ids[:start], ids[start:stop])

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        ids, images, more = super()._tokenize_prompts(prompts)
        pairs = zip(ids, self._given, strict=True)
        return [given.prompt if given else alone for alone, given in pairs], images, more

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> list[list[int]]:
        """An answer for each prompt: the given one, or the student's, cut where `max_length` ends."""
        asked = [ids for ids, given in zip(prompt_ids, self._given, strict=True) if given is None]
        written = iter(super()._generate_single_turn(asked, *args, **kwargs) if asked else [])
        return [
            given.answer if given else next(written)[: max(1, self.max_length - len(ids))]
            for ids, given in zip(prompt_ids, self._given, strict=True)
        ]


def fitting(rows: Any, tokenizer: Any, max_length: int) -> Any:
    """Rows (a `datasets.Dataset`) with their tokens, without those whose whole answer `max_length` cuts off."""

    def tokens(row: dict[str, Any]) -> dict[str, list[int]]:
        prompt, whole = (
            list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, **more)["input_ids"])
            for turns, more in (
                (row["prompt"], {"add_generation_prompt": True}),
                (row["prompt"] + row["completion"], {}),
            )
        )
        start = common_prefix_length(prompt, whole)
        return {"input_ids": whole, "labels": [MASKED] * start + whole[start:]}

    if "input_ids" not in rows.column_names:
        rows = rows.map(tokens)
    return rows.filter(lambda labels: any(label != MASKED for label in labels[:max_length]), input_columns="labels")
