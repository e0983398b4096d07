"""What a training step minimises: first the points it is trained on, then the loss there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from buckler import draws
from buckler.attacks.engine import gradient
from buckler.attacks.perturb import perturb
from buckler.losses import Loss, cross_entropy
from buckler.threats import Goal, LpBall
from buckler.threats.lp import per_row


class Objective(Protocol):
    """Both take warm in (0, 1], which scales eps or noise up over the first epochs: nets started
    at full strength can stay at chance."""

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        """The points (n, ...) of this step, without a graph; the model's modes stay."""
        ...

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, warm: float) -> Tensor:
        """A scalar, given x (n, ...) and what was crafted of it."""
        ...


@dataclass(frozen=True)
class Standard:
    """Cross entropy with smoothed labels: small nets grow less sure, and a little harder to fool
    (Pang et al. 2021, arXiv:2010.00467, find 0.1 to 0.2 useful)."""

    smoothing: float = 0.1

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        return x

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, warm: float) -> Tensor:
        return functional.cross_entropy(model(x_adv), y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class Noise(Standard):
    """Cross entropy under Gaussian noise of standard deviation sigma, clipped to the box."""

    sigma: float = 0.05
    box: tuple[float, float] = (0.0, 1.0)

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        noise = draws.normal(seed, rows, 0, tuple(x.shape[1:])).to(x)
        return (x + self.sigma * noise).clamp(*self.box)


@dataclass(frozen=True, kw_only=True)
class Attacked(Standard):
    """Cross entropy at points attacked by PGD (Madry et al. 2018, arXiv:1706.06083).

    Args:
        steps, step_size: of the attack; a fraction of eps.
        clean: share of each batch that stays as it is. One half is the article's mixture
            (Kurakin et al. 2017, arXiv:1611.01236).
    """

    threat: LpBall
    steps: int = 7
    step_size: float = 0.25
    clean: float = 0.0

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        cut = int(self.clean * len(x))
        attacked = climbed(self, model, x[cut:], y[cut:], seed, rows[cut:], warm, cross_entropy)
        return torch.cat([x[:cut], attacked]) if cut else attacked


@dataclass(frozen=True, kw_only=True)
class Trades:
    """Clean cross entropy + beta · KL(answer at x ‖ answer nearby) (Zhang et al. 2019,
    arXiv:1901.08573): beta is the one dial between clean and robust accuracy."""

    threat: LpBall
    beta: float = 6.0
    steps: int = 7
    step_size: float = 0.25

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        with still(model), torch.no_grad():
            clean = model(x).log_softmax(1)
        return climbed(self, model, x, clean, seed, rows, warm, _divergence)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, warm: float) -> Tensor:
        clean, moved = model(torch.cat([x, x_adv])).chunk(2)
        nearby, here = moved.log_softmax(1), clean.log_softmax(1)
        apart = functional.kl_div(nearby, here, reduction="batchmean", log_target=True)
        return functional.cross_entropy(clean, y) + self.beta * apart


@dataclass(frozen=True, kw_only=True)
class OneStep(Standard):
    """Cross entropy after one long step from noise twice as wide as the ball, not pulled back into
    it (N-FGSM, de Jorge et al. 2022, arXiv:2202.01181): fast, and prone to collapse."""

    threat: LpBall
    width: float = 2.0

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        threat = scaled(self.threat, warm)
        eps = per_row(threat.eps, x)
        low, high = threat.box
        noise = 2 * draws.uniform(seed, rows, 0, tuple(x.shape[1:])).to(x) - 1
        start = (x + self.width * eps * noise).clamp_(low, high)
        with still(model):
            grad, _ = gradient(model, start, y, threat.goal, cross_entropy)
        return (start + eps * threat.steepest(grad)).clamp_(low, high)


def scaled(threat: LpBall, warm: float) -> LpBall:
    """The threat at this share of its radius."""
    return LpBall(threat.norm, threat.eps * warm, threat.box)


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """The model in eval mode: batch statistics must not move while an attack looks for its point.
    Each part gets its own mode back, so that one the user froze stays frozen."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


class Climber(Protocol):
    """What PGD needs to know: the threat, and steps of a fraction of its eps."""

    @property
    def threat(self) -> LpBall: ...
    @property
    def steps(self) -> int: ...
    @property
    def step_size(self) -> float: ...


def climbed(
    objective: Climber,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    seed: int,
    rows: Tensor,
    warm: float,
    loss: Loss,
) -> Tensor:
    """The points that PGD finds from x, by the objective's own settings."""
    with still(model):
        return perturb(
            model,
            x,
            y,
            scaled(objective.threat, warm),
            steps=objective.steps,
            step_size=objective.step_size,
            seed=seed,
            rows=rows,
            loss=loss,
        )


def _divergence(logits: Tensor, clean: Tensor, goal: Goal) -> Tensor:
    """(n,) KL of the answers from the clean ones, log-probabilities (n, k)."""
    apart = functional.kl_div(logits.log_softmax(1), clean, reduction="none", log_target=True)
    return apart.sum(1)
