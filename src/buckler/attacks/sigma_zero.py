"""σ-zero: the fewest pixels, by descent on a smooth count of them and a threshold that follows."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.attacks.engine import gradient, logits_of
from buckler.attacks.nearest import SIGNED, Nearest, check_signed
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import PixelBudget
from buckler.threats.lp import per_row

_KEEP, _KEEP2, _TINY = 0.9, 0.999, 1e-8  # Adam's
_NO_SLOPE = 1e-12


@dataclass(frozen=True)
class SigmaZero:
    """The winning point that changes fewest pixels; the threat's number of pixels is not looked at.

    Cinà et al. 2024 (arXiv:2402.01879). Deviations: lengths are fractions of the box's width, the
    last iterate is judged too, and what is counted is what the PixelBudget counts: a place with its
    channels (its size is the sum of their squares, and it goes when the largest is too small), or
    every value by itself as in the paper.

    Args:
        steps: gradient steps.
        step_size: first step of Adam; it falls to a tenth (cosine).
        sigma: what a change's square is compared with in the smooth count.
        threshold: changes smaller than this are undone, at first.
        follow: by how much of a step the threshold rises after a win, and falls after a loss.
        loss: "margin", or "selective" against a guard.
    """

    steps: int = 100
    step_size: float = 1.0
    sigma: float = 1e-3
    threshold: float = 0.3
    follow: float = 0.01
    loss: str = "margin"
    name: str = "SigmaZero"

    def __post_init__(self) -> None:
        if self.steps < 1 or not min(self.step_size, self.sigma, self.threshold, self.follow) > 0:
            raise UsageError(
                "SigmaZero needs steps >= 1 and step_size, sigma, threshold and follow > 0. Got "
                f"steps={self.steps}, step_size={self.step_size}, sigma={self.sigma}, "
                f"threshold={self.threshold}, follow={self.follow}"
            )
        check_signed(self.loss)

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
        if not isinstance(threat, PixelBudget):
            raise UsageError(f"SigmaZero needs a PixelBudget. Got {threat}")
        near = Nearest(x, y, threat, rows)
        x = near.x
        if not len(x):
            return near.best
        loss, width = SIGNED[self.loss], threat.box[1] - threat.box[0]
        least = x.new_full((len(x),), self.threshold)
        x_adv, delta = x, torch.zeros_like(x)  # delta: of the box's width
        mean, square, size = torch.zeros_like(x), torch.zeros_like(x), self.step_size
        for step in range(self.steps):
            grad, logits = gradient(model, x_adv, y, threat.goal, loss)
            won = near.judge(x_adv, logits) > 0
            down = self._slope(threat, delta).addcmul_(grad, per_row(-width * ~won, x))
            largest = down.flatten(1).abs().amax(1).clamp_min(_NO_SLOPE)
            down.div_(per_row(largest, x))
            mean.lerp_(down, 1 - _KEEP)
            square.mul_(_KEEP2).addcmul_(down, down, value=1 - _KEEP2)
            scale = (1 - _KEEP2 ** (step + 1)) ** 0.5
            spread = square.sqrt().div_(scale).add_(_TINY)
            delta.addcdiv_(mean, spread, value=-size / (1 - _KEEP ** (step + 1)))
            x_adv = delta.mul_(width).add_(x).clamp_(*threat.box)
            delta = (x_adv - x).div_(width)
            size = self.step_size * (0.1 + 0.45 * (1 + math.cos(math.pi * step / self.steps)))
            least.add_(torch.where(won, self.follow * size, -self.follow * size)).clamp_(0, 1)
            grid = threat.grid(delta)
            stay = (grid.abs().amax(1) >= least[:, None]).to(x.dtype)  # products: masks cost more
            delta = (grid * stay[:, None]).reshape(x.shape)
            x_adv = (delta * width).add_(x).clamp_(*threat.box)
        near.judge(x_adv, logits_of(model, x_adv))
        return near.best

    def _slope(self, threat: PixelBudget, delta: Tensor) -> Tensor:
        """Gradient of the mean over pixels of s / (s + sigma), s a pixel's sum of squares."""
        grid = threat.grid(delta)
        s = grid.square().sum(1, keepdim=True).add_(self.sigma).square_()
        return (grid * (2 * self.sigma / grid.shape[2]) / s).reshape(delta.shape)
