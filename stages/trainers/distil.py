"""A TRL trainer whose loss compares the student with its teacher: distributions, hidden states, attention."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from trl import SFTTrainer

from pipeline import console
from stages.objectives.base import MASKED, Teaching
from stages.objectives.divergence import between, bucketed, softened
from stages.objectives.stored import collated
from stages.trainers.attention import Listener, relations, rows
from stages.trainers.positions import Places, collate_also, places

if TYPE_CHECKING:
    from stages.objectives.distil import Distil

CHUNK = 1024  # positions whose distributions are held in float32 at once
STORED = ("teacher_tokens", "teacher_logprobs", "teacher_known")
PROJECTORS = "projectors.safetensors"


class DistilTrainer(SFTTrainer):  # type: ignore[misc]  # TRL is not typed
    """SFTTrainer with the losses of an objective; the teacher is frozen, its projectors train beside the student."""

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, objective: "Distil", teaching: Teaching, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        collate_also(self, "id")
        self.objective, self.teacher, self.projectors = objective, None, None
        self._told = False
        if teaching.stored is not None:
            self.data_collator: Any = collated(self.data_collator, teaching.stored, MASKED)
        if teaching.teacher is None:
            return
        if teaching.teacher is self.model:
            raise ValueError("teacher and student are the same modules")
        self.teacher = self.accelerator.prepare_model(
            teaching.teacher.requires_grad_(False).eval(), evaluation_mode=True
        )
        self._listeners: list[Listener] = []
        if objective.attention is not None and objective.attention.of == "relations":
            ours, theirs = zip(*objective.attention.layers, strict=True)
            self._listeners = [Listener(self.model, ours), Listener(self.teacher, theirs)]
        if objective.features is not None:
            ours, theirs = (m.config.get_text_config().hidden_size for m in (self.model, teaching.teacher))
            made = (
                nn.Identity() if ours == theirs else nn.Linear(ours, theirs, bias=False)
                for _ in objective.features.layers
            )
            self.projectors = nn.ModuleList(made).to(self.accelerator.device)

    def create_optimizer(self, model: Any = None) -> Any:
        """The student's optimizer, projectors included."""
        optimizer = super().create_optimizer(model)
        if self.projectors is not None and (learned := list(self.projectors.parameters())):
            optimizer.add_param_group({"params": learned, "lr": self.args.learning_rate, "weight_decay": 0.0})
            # The trainer zeroes the gradients of its model alone.
            optimizer.register_step_post_hook(lambda *_: self.projectors.zero_grad())
        return optimizer

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective's loss of a batch; each part of it goes to the log under its name."""
        inputs = dict(inputs)
        there = places(inputs.pop("labels"))
        stored = [there.next(inputs.pop(name)) for name in STORED if name in inputs]
        mine = self._forward(model, inputs, there)
        theirs = None
        if self.teacher is not None and (self.objective.alpha or self.objective.features or self.objective.attention):
            with torch.no_grad():
                theirs = self._forward(self.teacher, inputs, there)
        count = torch.as_tensor(there.trained.sum() if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
        loss = torch.zeros((), device=mine.logits.device)
        for name, weight, total in self._terms(mine, theirs, stored, there, inputs.get("attention_mask")):
            loss = loss + weight * total / count
            self._note(name, total / count, num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, mine) if return_outputs else loss

    def _forward(self, model: Any, inputs: dict[str, Any], there: Places) -> Any:
        goal = self.objective
        return model(
            **inputs, use_cache=False, logits_to_keep=there.columns, output_hidden_states=goal.features is not None,
            output_attentions=goal.attention is not None and goal.attention.of == "rows",
        )  # fmt: skip

    def _terms(
        self, mine: Any, theirs: Any, stored: list[Any], there: Places, mask: Any
    ) -> Iterator[tuple[str, float, Any]]:
        """Name, weight and sum over the trained tokens of each part of the loss."""
        yield from self._words(there.made(mine.logits), there.targets, theirs and there.made(theirs.logits), stored)
        features, attention = self.objective.features, self.objective.attention
        if features is not None:
            assert self.projectors is not None
            for projector, (ours, of_theirs) in zip(self.projectors, features.layers, strict=True):
                pair = (projector(there.of(_layer(mine, ours))), there.of(_layer(theirs, of_theirs)))
                yield (
                    f"feature_{ours}_{of_theirs}",
                    features.weight / len(features.layers),
                    _apart(*pair, features.loss),
                )
        if attention is not None:
            weight = attention.weight / len(attention.layers)
            for ours, of_theirs in attention.layers:
                name = f"attention_{ours}_{of_theirs}"
                if attention.of == "rows":
                    total = rows(mine.attentions[ours], theirs.attentions[of_theirs])
                else:
                    student, teacher = (each.heard for each in self._listeners)
                    total = relations(student[ours], teacher[of_theirs], attention.relation_heads, mask)
                yield name, weight, there.of(total).sum()

    def _words(self, logits: Any, targets: Any, theirs: Any, stored: list[Any]) -> Iterator[tuple[str, float, Any]]:
        """Cross-entropy and soft labels. A token of which nothing is stored counts for its cross-entropy alone."""
        alpha = self.objective.alpha
        if alpha == 0:
            yield "ce", 1.0, functional.cross_entropy(logits.float(), targets, reduction="sum")
            return
        known = stored[2] if stored else torch.ones_like(targets, dtype=torch.bool)
        taught = stored[:2] if stored else [theirs]
        sums = torch.zeros(3, device=logits.device)
        for n in range(0, len(targets), CHUNK):
            here = slice(n, n + CHUNK)
            parts = [logits[here], targets[here], known[here], *(part[here] for part in taught)]
            sums = sums + checkpoint(self._chunk, *parts, use_reentrant=False)
        hard, bare, soft = sums
        yield "ce", 1 - alpha, hard
        yield "kd", alpha, soft
        if stored:
            yield "ce_not_stored", 1.0, bare
        if not self._told and not soft.detach().any():
            console.warn(
                "soft labels: student and teacher agree wholly on the first batch, so there is nothing to learn"
            )
        self._told = True

    def _chunk(self, logits: Any, targets: Any, known: Any, *taught: Any) -> Any:
        """Sums over some positions: cross-entropy where the teacher is known, and where not; divergence times T^2."""
        goal = self.objective
        hard = functional.cross_entropy(logits.float(), targets, reduction="none")
        if len(taught) == 2:
            p, q = bucketed(logits, *taught)
        else:  # padded to different widths, vocabularies are the same up to the smaller
            width = min(logits.shape[-1], taught[0].shape[-1])
            p, q = softened(taught[0][:, :width], goal.temperature), softened(logits[:, :width], goal.temperature)
        apart = between(p, q, goal.divergence, beta=goal.beta, skew=goal.skew) * goal.temperature**2
        return torch.stack([part.sum() for part in (hard * known, hard * ~known, apart * known)])

    def _note(self, name: str, value: Any, counted: Any) -> None:
        mode = "train" if self.model.training else "eval"
        micro = self.current_gradient_accumulation_steps if counted is not None and self.model.training else 1
        self._metrics[mode][name].append(float(value.detach()) * micro)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.projectors is not None and (state := self.projectors.state_dict()):
            save_file(state, Path(output_dir or self.args.output_dir) / PROJECTORS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        file = Path(resume_from_checkpoint) / PROJECTORS
        if self.projectors is not None and file.is_file():
            self.projectors.load_state_dict(load_file(file, device=str(self.accelerator.device)))


def _layer(outputs: Any, layer: int) -> Any:
    """What a layer puts out, (rows, length, width); the last one after the final norm."""
    return outputs.hidden_states[layer + 1 if layer >= 0 else layer]


def _apart(ours: Any, theirs: Any, loss: str) -> Any:
    """Sum over positions of how far hidden states (N, width) are from each other."""
    if loss == "cosine":
        return (1 - functional.cosine_similarity(ours.float(), theirs.float(), dim=-1)).sum()
    return functional.mse_loss(ours.float(), theirs.float(), reduction="none").mean(-1).sum()
