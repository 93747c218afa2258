"""DP-SGD (Abadi et al. 2016, arXiv 1607.00133) with Opacus: the noise that a promise takes, and the steps that keep it.

Every step draws each row by itself with the same chance, clips every row's gradient to one length, and adds Gaussian
noise to their sum. Noise and draws come from a seed of the operating system that is never the plan's: who knew it
could take the noise off again.
"""

import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from pipeline.errors import ModelError, UsageError

Accountant = Literal["prv", "rdp"]


class Promise(NamedTuple):
    """At most e^epsilon times likelier with any one row than without it, but for a chance of delta."""

    epsilon: float
    delta: float
    accountant: Accountant


class Budget(NamedTuple):
    """A promise, and the training that keeps it."""

    promise: Promise
    rows: int
    batch: int
    """rows a step draws on average"""
    steps: int
    noise_multiplier: float
    """the noise's standard deviation over the length that gradients are clipped to"""

    @property
    def sample_rate(self) -> float:
        """The chance of a row to be drawn in a step."""
        return self.batch / self.rows

    def reach(self, parameters: int) -> float:
        """How far noise alone moves the gradients' sum over all steps, against the farthest that the rows could.

        Noise adds up in `parameters` directions as a random walk; rows that all agree add up along a line.
        """
        return self.noise_multiplier * math.sqrt(parameters / self.steps) / self.batch

    def spent(self, history: Sequence[tuple[float, float, int]]) -> float:
        """Epsilon of the steps made: noise multiplier, sample rate and number of each stretch."""
        return _epsilon(self.promise.accountant, tuple(history), self.promise.delta)


def usual_delta(rows: int) -> float:
    """1 / (rows ln rows), as in Yue et al. 2022 (arXiv 2210.14348)."""
    return 1 / (rows * math.log(max(rows, 2)))


def budget(promise: Promise, rows: int, batch: int, steps: int) -> Budget:
    """The noise for a promise over so many steps. Raises UsageError where it cannot be kept, or says nothing."""
    if promise.delta >= 1 / rows:
        raise UsageError(
            f"train.objective.delta: {promise.delta:g} is not below 1/{rows}: to publish one of the {rows} rows as it "
            "is, drawn by chance, would keep that promise",
            hint=f"leave delta out: it is then 1 / (rows ln rows), here {usual_delta(rows):.2g}",
        )
    if batch > rows:
        raise UsageError(
            f"a step draws {batch} rows (per_device_train_batch_size x gradient_accumulation_steps), and there are "
            f"only {rows}",
            hint="a fifth of the rows or less to a step: the less of them a step sees, the less noise it needs",
        )
    try:
        noise = _noise(promise, batch / rows, steps)
    except ValueError as error:
        raise UsageError(
            f"train.objective.epsilon: no noise is found that keeps epsilon {promise.epsilon:g} over {steps} steps of "
            f"{batch} of {rows} rows ({error})",
            hint="a higher epsilon, or fewer epochs",
        ) from error
    return Budget(promise, rows, batch, steps, noise)


class Noised:
    """An optimizer's steps made private; the model's trainable parameters must be those of linear layers."""

    def __init__(self, model: Any, optimizer: Any, budget: Budget, max_grad_norm: float) -> None:
        from opacus.accountants import create_accountant
        from opacus.grad_sample import GradSampleHooks
        from opacus.optimizers import DPOptimizer

        self.budget = budget
        self._refuse_other_layers(model)
        self._hooks = GradSampleHooks(model, loss_reduction="sum")
        device = next(p.device for p in model.parameters() if p.requires_grad)
        self._draws, self._noise = _generator("cpu"), _generator(device)
        self._optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=budget.noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=budget.batch,
            generator=self._noise,
            secure_mode=True,  # sums several draws, so that the noise's floating-point digits give nothing away
        )
        self._accountant = create_accountant(mechanism=budget.promise.accountant)
        self._optimizer.attach_step_hook(self._accountant.get_optimizer_hook_fn(budget.sample_rate))

    @property
    def spent(self) -> float:
        """Epsilon of all steps made, those before a resumption included."""
        return self.budget.spent(self._accountant.history)

    def draws(self, steps: int) -> Iterator[list[int]]:
        """Numbers of the rows of each step: any number of them, none included (Poisson sampling)."""
        from opacus.utils.uniform_sampler import UniformWithReplacementSampler

        rows, rate = self.budget.rows, self.budget.sample_rate
        yield from UniformWithReplacementSampler(num_samples=rows, sample_rate=rate, generator=self._draws, steps=steps)

    def step(self, parts: list[list[int]], loss: Callable[[list[int]], Any]) -> None:
        """One update from the rows drawn, in parts that memory holds; `loss` is the sum of a part's rows' losses."""
        if not parts:  # a step without rows is noise alone, and counts like any other
            for parameter in self._optimizer.params:
                parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
            self._optimizer.step()
            self._optimizer.zero_grad()
        for n, part in enumerate(parts, 1):
            self._optimizer.signal_skip_step(do_skip=n < len(parts))
            loss(part).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()

    def close(self) -> None:
        """Take the hooks off the model."""
        self._hooks.cleanup()

    def state(self) -> dict[str, Any]:
        """What a resumed training goes on from: the same draws, the same noise, all steps on the account."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "history": self._accountant.history,
            "draws": self._draws.get_state(),
            "noise": self._noise.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._accountant.history = [tuple(stretch) for stretch in state["history"]]
        self._draws.set_state(state["draws"])
        self._noise.set_state(state["noise"])

    @staticmethod
    def _refuse_other_layers(model: Any) -> None:
        from torch import nn

        for name, module in model.named_modules():
            if type(module) is not nn.Linear and any(p.requires_grad for p in module.parameters(recurse=False)):
                raise UsageError(
                    f"the objective private trains adapters of linear layers, whose gradients are known row by row; "
                    f"{name} is a {type(module).__name__}",
                    hint="train.objective.lora.target_modules: all-linear, or names of linear layers",
                )


def _generator(device: Any) -> Any:
    import torch

    return torch.Generator(device=device).manual_seed(secrets.randbits(63))


@lru_cache(maxsize=64)
def _noise(promise: Promise, sample_rate: float, steps: int) -> float:
    try:
        from opacus.accountants.utils import get_noise_multiplier
    except ImportError as error:
        raise ModelError(
            f"the objective private needs Opacus ({error})", hint="pip install 'pipeline[private]'"
        ) from error
    return float(
        get_noise_multiplier(
            target_epsilon=promise.epsilon,
            target_delta=promise.delta,
            sample_rate=sample_rate,
            steps=steps,
            accountant=promise.accountant,
        )
    )


@lru_cache(maxsize=64)
def _epsilon(accountant: str, history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    from opacus.accountants import create_accountant

    made = create_accountant(mechanism=accountant)
    made.history = list(history)
    return float(made.get_epsilon(delta)) if history else 0.0
