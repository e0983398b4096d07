"""What a training step minimises: (model, x, y, seed, rows, warm) → a scalar loss."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from buckler import draws
from buckler.attacks.perturb import perturb
from buckler.threats import LpBall


class Objective(Protocol):
    """warm in (0, 1] scales eps or noise up over the first epochs: nets started at full strength
    can stay at chance."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor: ...


@dataclass(frozen=True)
class Standard:
    """Cross entropy with smoothed labels: small nets grow less sure, and a little harder to fool
    (Pang et al. 2021, arXiv:2010.00467, find 0.1 to 0.2 useful)."""

    smoothing: float = 0.1

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        return functional.cross_entropy(model(x), y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class Noise:
    """Cross entropy under Gaussian noise of standard deviation sigma, clipped to the box."""

    sigma: float = 0.05
    smoothing: float = 0.1
    box: tuple[float, float] = (0.0, 1.0)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        noise = draws.normal(seed, rows, 0, tuple(x.shape[1:])).to(x)
        noisy = (x + self.sigma * noise).clamp(*self.box)
        return functional.cross_entropy(model(noisy), y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class Mixed:
    """Half of each batch clean, half attacked by PGD (Kurakin et al. 2017; Madry et al. 2018)."""

    threat: LpBall
    steps: int = 10
    step_size: float = 0.25
    smoothing: float = 0.1

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        half = len(x) // 2
        clean, attacked = x[:half], x[half:]
        threat = LpBall(self.threat.norm, self.threat.eps * warm, self.threat.box)
        modes = [(part, part.training) for part in model.modules()]
        model.eval()  # batch statistics must not move while the attack looks for its point
        try:
            attacked = perturb(
                model,
                attacked,
                y[half:],
                threat,
                steps=self.steps,
                step_size=self.step_size,
                seed=seed,
                rows=rows[half:],
            )
        finally:
            for part, training in modes:  # not model.train(): a part frozen in eval stays there
                part.training = training
        logits = model(torch.cat([clean, attacked]))
        return functional.cross_entropy(logits, y, label_smoothing=self.smoothing)
