"""Decoupled direction and norm: the L2 sphere shrinks after a win and grows after a loss."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import gradient, logits_of
from buckler.attacks.nearest import Nearest, farthest_corner
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall
from buckler.threats.lp import per_row

_SMALL = 1e-12


@dataclass(frozen=True)
class DDN:
    """The nearest winning point in L2, inside the box; the threat's eps is not looked at.

    Rony et al. 2019 (arXiv:1811.09600). Deviations: lengths are fractions of the box's width, and
    the last iterate is judged too.

    Args:
        steps: gradient steps.
        shrink: share by which the sphere's radius changes each step.
        start: its first radius, of the box's width.
        levels: 256 keeps every point on the grid an 8-bit file can hold; 0: no grid.
        loss: a name in buckler.losses.LOSSES.
    """

    steps: int = 100
    shrink: float = 0.05
    start: float = 1.0
    levels: int = 0
    loss: str = "ce"
    name: str = "DDN"

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.shrink < 1 or not self.start > 0:
            raise UsageError(
                "DDN needs steps >= 1, 0 < shrink < 1 and start > 0. "
                f"Got steps={self.steps}, shrink={self.shrink}, start={self.start}"
            )
        if self.levels < 0 or self.levels == 1:
            raise UsageError(f"levels must be 0 (no grid) or at least 2. Got {self.levels}")
        if self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}. Got {self.loss!r}")

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor:
        if not isinstance(threat, LpBall) or threat.norm != "l2":
            raise UsageError(f"DDN needs an L2 ball. Got {threat}")
        near = Nearest(x, y, threat, rows)
        x = near.x
        if not len(x):
            return near.best
        loss, width = LOSSES[self.loss], threat.box[1] - threat.box[0]
        widest = threat.distance(x, farthest_corner(x, threat.box))
        radius = torch.full_like(widest, self.start * width)
        x_adv = x
        for step in range(self.steps):
            grad, logits = gradient(model, x_adv, y, threat.goal, loss)
            won = near.judge(x_adv, logits) > 0
            size = width * (0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2)
            grad, length = _never_zero(grad, near.rows, seed, step)
            delta = torch.addcmul(x_adv, grad, per_row(size / length, x)).sub_(x)
            radius *= torch.where(won, 1 - self.shrink, 1 + self.shrink)
            radius = torch.minimum(radius, widest)
            length = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(1e-12)
            x_adv = delta.mul_(per_row(radius / length, x)).add_(x).clamp_(*threat.box)
            if self.levels:
                x_adv = _on_grid(x_adv, threat.box, self.levels)
        near.judge(x_adv, logits_of(model, x_adv))
        return near.best


def _never_zero(grad: Tensor, rows: Tensor, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """The gradient and its L2 length; where it is zero, a direction drawn at random."""
    length = torch.linalg.vector_norm(grad.flatten(1), dim=1)
    if float(length.min()) > _SMALL:
        return grad, length
    size = per_row(grad.flatten(1).abs().amax(1), grad)  # squares of small gradients underflow
    drawn = draws.normal(seed, rows, step, tuple(grad.shape[1:])).to(grad)
    grad = torch.where(size == 0, drawn, grad / size)
    return grad, torch.linalg.vector_norm(grad.flatten(1), dim=1)


def _on_grid(x_adv: Tensor, box: tuple[float, float], levels: int) -> Tensor:
    low, high = box
    step = (high - low) / (levels - 1)
    return ((x_adv - low).div_(step).round_().mul_(step) + low).clamp_(low, high)
