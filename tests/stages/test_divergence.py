"""How far two distributions are: against TRL's kernel, against plain definitions, and what a bucket leaves of it."""

import math
from typing import Any, get_args

import pytest

from pipeline.engines.trace import FLOOR
from stages.objectives.divergence import Divergence, between, bucketed, softened

pytestmark = pytest.mark.slow  # torch

KINDS = get_args(Divergence)


def logits(seed: int, rows: int = 5, vocabulary: int = 40) -> Any:
    """Logits of a peaked distribution."""
    import torch

    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_what_its_definition_says(kind: Divergence) -> None:
    """Sums over a vocabulary of probabilities, written out."""
    teacher, student = logits(1)[0].softmax(-1).tolist(), logits(2)[0].softmax(-1).tolist()

    def kl(a: list[float], b: list[float]) -> float:
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))

    def mixed(a: list[float], b: list[float], share: float) -> list[float]:
        return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]

    middle = mixed(teacher, student, 0.3)
    expected = {
        "forward_kl": kl(teacher, student),
        "reverse_kl": kl(student, teacher),
        "jsd": 0.3 * kl(teacher, middle) + 0.7 * kl(student, middle),
        "skew_kl": kl(teacher, mixed(teacher, student, 0.2)),
        "skew_rkl": kl(student, mixed(student, teacher, 0.2)),
        "tvd": sum(abs(x - y) for x, y in zip(teacher, student, strict=True)) / 2,
    }
    found = between(softened(logits(1), 1), softened(logits(2), 1), kind, beta=0.3, skew=0.2)
    assert found[0].item() == pytest.approx(expected[kind], rel=1e-5)


@pytest.mark.parametrize(("beta", "kind"), [(0.0, "forward_kl"), (1.0, "reverse_kl"), (0.3, "jsd")])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_three_of_them_are_trls(beta: float, kind: Divergence, temperature: float) -> None:
    """The kernel of TRL's own distillation trainer gives the same loss and the same gradient."""
    import torch
    from trl.experimental.gkd import GKDTrainer

    results = []
    for ours in (True, False):
        student = logits(2).float().requires_grad_()
        if ours:
            p, q = softened(logits(1), temperature), softened(student, temperature)
            loss = between(p, q, kind, beta=beta or 0.5).sum()
        else:
            loss = GKDTrainer.generalized_jsd_loss(
                student[None], logits(1).float()[None], beta=beta, temperature=temperature, reduction="sum"
            )
        loss.backward()
        results.append((loss.item(), student.grad))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_alike_is_zero_and_so_is_the_gradient(kind: Divergence) -> None:
    """A student that says what its teacher says has nothing to learn."""
    student = logits(1).float().requires_grad_()
    loss = between(softened(logits(1), 1), softened(student, 1), kind).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert student.grad is not None and student.grad.abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_vocabulary_leaves_nothing_for_the_bucket(kind: Divergence) -> None:
    """With k = vocabulary, stored log-probabilities give what the teacher itself gives."""
    p = softened(logits(1), 1)
    stored, tokens = p.sort(descending=True)
    whole = between(p, softened(logits(2), 1), kind)
    assert between(*bucketed(logits(2), tokens, stored), kind) == pytest.approx(whole, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bucket_brings_distributions_closer_only(kind: Divergence) -> None:
    """A lower bound for every k, and none worse than a smaller k's."""
    p, q = softened(logits(1), 1), softened(logits(2), 1)
    stored, tokens = p.sort(descending=True)
    whole, last = between(p, q, kind), -1.0
    for k in (1, 4, 16, 39):
        found = between(*bucketed(logits(2), tokens[:, :k], stored[:, :k]), kind)
        assert (found <= 1.001 * whole + 1e-4).all()  # in float32
        assert found.sum().item() >= last - 1e-4
        last = found.sum().item()


def test_what_is_not_stored_goes_to_the_bucket() -> None:
    """Fillers, for a teacher that stored fewer than k, change nothing, whatever token they name."""
    import torch

    stored, tokens = softened(logits(1), 1).sort(descending=True)
    few = between(*bucketed(logits(2), tokens[:, :3], stored[:, :3]), "forward_kl")
    fillers = torch.full((5, 2), -1)
    more = (torch.cat([tokens[:, :3], fillers], 1), torch.cat([stored[:, :3], fillers * -FLOOR], 1))
    assert between(*bucketed(logits(2), *more), "forward_kl") == pytest.approx(few, rel=1e-5)


def test_temperature_squared_keeps_the_gradient() -> None:
    """Without the factor the gradient falls with the square of the temperature; with it, it stays of one size."""
    sizes = []
    for temperature in (1.0, 2.0, 4.0, 8.0):
        student = (0.1 * logits(2)).float().requires_grad_()  # small logits: Hinton, section 2.1
        loss = between(softened(0.1 * logits(1), temperature), softened(student, temperature), "forward_kl").sum()
        (loss * temperature**2).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert max(sizes) < 1.25 * min(sizes)
