"""Carlini and Wagner's L2 attack: distance plus c times the margin, c searched row by row."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.attacks.engine import gradient, kept, logits_of
from buckler.attacks.nearest import SIGNED, Nearest, check_signed
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall
from buckler.threats.lp import per_row

_KEEP, _KEEP2, _TINY = 0.9, 0.999, 1e-8  # Adam's
_STALLED = 0.9999  # of the loss a tenth of the steps ago
_LOOKS = 10  # times a search at which stalled rows leave


@dataclass(frozen=True)
class CW:
    """The nearest winning point in L2, inside the box; the threat's eps is not looked at.

    Carlini and Wagner 2017 (arXiv:1608.04644). Deviations: the box is kept by clipping, not by
    tanh, in whose flat ends pixels at exactly 0 or 1 (a digit's whole background) hardly move; each
    row searches its own c and leaves a search when its own loss stalls; steps have an L2 length,
    whatever the input's size, and shrink linearly to a tenth; lengths are fractions of the box's
    width; the last iterate is judged too.

    Args:
        steps: gradient steps a search.
        searches: values of c tried: times ten until the row is won, then halving.
        step_size: L2 length of Adam's first step, of the box's width.
        first: the first c.
        confidence: by how much the objective must exceed 0 for a point to count as won.
        loss: "margin", or "selective" against a guard.
    """

    steps: int = 100
    searches: int = 9
    step_size: float = 0.12
    first: float = 1e-3
    confidence: float = 0.0
    loss: str = "margin"
    name: str = "CW"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.searches < 1 or not min(self.step_size, self.first) > 0:
            raise UsageError(
                "CW needs steps >= 1, searches >= 1, step_size > 0 and first > 0. Got "
                f"steps={self.steps}, searches={self.searches}, step_size={self.step_size}, "
                f"first={self.first}"
            )
        check_signed(self.loss)
        if not 0 <= self.confidence < math.inf:
            raise UsageError(f"confidence must be a number >= 0. Got {self.confidence}")

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
            raise UsageError(f"CW needs an L2 ball. Got {threat}")
        near = Nearest(x, y, threat, rows)
        c = torch.full_like(near.distance, self.first)
        lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(self.searches):
            near.reopen(near.distance > 0)
            if not len(near):
                break
            won = self._descend(model, near, c)
            upper = torch.where(won, torch.minimum(upper, c), upper)
            lower = torch.where(won, lower, torch.maximum(lower, c))
            c = torch.where(torch.isinf(upper), 10 * c, (lower + upper) / 2)
        return near.best

    def _descend(self, model: Classifier, near: Nearest, c: Tensor) -> Tensor:
        """Adam on |delta|² + c · max(confidence − margin, 0). Returns: (all rows,) bool, won."""
        loss, width = SIGNED[self.loss], near.threat.box[1] - near.threat.box[0]
        won_now = torch.zeros_like(c, dtype=torch.bool)
        x_adv, c = near.x, c[near.index]
        delta, mean, square = (torch.zeros_like(x_adv) for _ in range(3))  # of the box's width
        last = torch.full_like(c, torch.inf)
        look = max(1, self.steps // _LOOKS)
        first = self.step_size / delta[0].numel() ** 0.5  # Adam moves every value by as much
        for step in range(self.steps):
            grad, logits = gradient(model, x_adv, near.y, near.threat.goal, loss)
            lack = self.confidence - near.judge(x_adv, logits, self.confidence)
            won_now[near.index] |= lack < 0
            if step and step % look == 0:  # Adam's first steps overshoot: x itself is no measure
                total = delta.flatten(1).square().sum(1) + c * lack.clamp_min(0)
                stay = total <= _STALLED * last
                last = total
                if not bool(stay.all()):
                    near.keep(stay)
                    if not len(near):
                        return won_now
                    state = (delta, mean, square, grad, c, lack, last)
                    delta, mean, square, grad, c, lack, last = kept(stay, *state)
            pull = per_row(-width * c * (lack > 0), delta)
            down = torch.addcmul(2 * delta, grad, pull)
            mean.lerp_(down, 1 - _KEEP)
            square.mul_(_KEEP2).addcmul_(down, down, value=1 - _KEEP2)
            spread = square.sqrt().div_((1 - _KEEP2 ** (step + 1)) ** 0.5).add_(_TINY)
            size = first * (1 - 0.9 * step / self.steps) / (1 - _KEEP ** (step + 1))
            delta.addcdiv_(mean, spread, value=-size)
            x_adv = delta.mul_(width).add_(near.x).clamp_(*near.threat.box)
            delta = (x_adv - near.x).div_(width)
        objective = near.judge(x_adv, logits_of(model, x_adv), self.confidence)
        won_now[near.index] |= objective > self.confidence
        return won_now
