"""Fast minimum-norm: a ball that shrinks after a win, and grows or jumps to the border before."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.attacks.engine import gradient, logits_of
from buckler.attacks.nearest import SIGNED, Nearest, check_signed, farthest_corner
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall, PixelBudget
from buckler.threats.lp import per_row

_DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
_TINY = 1e-12
_ROUNDS = 64  # each drops one value at least; a handful is the rule


@dataclass(frozen=True)
class FMN:
    """The nearest winning point in L∞, L2, L1 or L0, inside the box; eps is not looked at.

    Pintor et al. 2021 (arXiv:2102.12827). Deviations: until a row is won its ball never shrinks
    (jumps to borders that the gradient puts too near left half of an ordinary net's rows standing,
    in L2 and L1); step sizes are fractions of the box's width; the last iterate is judged too; L2
    steps end on the sphere, not only inside it (as in adversarial-library, where it tops
    AttackBench); L0 counts what the PixelBudget counts.

    Args:
        steps: gradient steps.
        step_size: first step's L2 length, of the box's width; it falls to a hundredth (cosine).
        shrink: first share by which the ball changes; it falls to `last_shrink` (cosine).
        loss: "margin", or "selective" against a guard.
    """

    steps: int = 100
    step_size: float = 1.0
    shrink: float = 0.05
    last_shrink: float = 0.001
    loss: str = "margin"
    name: str = "FMN"

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.step_size > 0 or not 0 < self.last_shrink <= self.shrink < 1:
            raise UsageError(
                "FMN needs steps >= 1, step_size > 0 and 0 < last_shrink <= shrink < 1. "
                f"Got steps={self.steps}, step_size={self.step_size}, "
                f"last_shrink={self.last_shrink}, shrink={self.shrink}"
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
        if not isinstance(threat, LpBall | PixelBudget):
            raise UsageError(
                f"FMN needs an L-infinity, L2 or L1 ball or a PixelBudget. Got {threat}"
            )
        near = Nearest(x, y, threat, rows)
        x = near.x
        if not len(x):
            return near.best
        loss, width = SIGNED[self.loss], threat.box[1] - threat.box[0]
        widest = threat.distance(x, farthest_corner(x, threat.box))
        radius = torch.full_like(widest, float(isinstance(threat, PixelBudget)))
        project = _projection(threat)
        x_adv, all_found = x, False
        for step in range(self.steps):
            grad, logits = gradient(model, x_adv, y, threat.goal, loss)
            lead = near.judge(x_adv, logits)
            won = lead > 0
            share = (1 + math.cos(math.pi * step / self.steps)) / 2
            size = width * self.step_size * (0.01 + 0.99 * share)
            shrink = self.last_shrink + (self.shrink - self.last_shrink) * share
            if isinstance(threat, LpBall):
                radius = torch.where(won, radius * (1 - shrink), radius * (1 + shrink))
                if not all_found:
                    if self.loss != "margin":
                        lead = loss(logits, y, threat.goal)
                    border = threat.distance(x, x_adv) + _to_border(lead, grad, _DUAL[threat.norm])
                    found = torch.isfinite(near.distance)
                    radius = torch.where(found, radius, torch.maximum(radius, border))
                    all_found = bool(found.all())
            else:
                less = torch.minimum(radius - 1, (radius * (1 - shrink)).floor_())
                more = torch.maximum(radius + 1, (radius * (1 + shrink)).floor_())
                radius = torch.where(won, less, more).clamp_min_(0)
            radius = torch.where(won, torch.minimum(radius, near.distance), radius)
            radius = torch.minimum(radius, widest)
            length = torch.linalg.vector_norm(grad.flatten(1), dim=1).clamp_min(_TINY)
            delta = torch.addcmul(x_adv, grad, per_row(size / length, x)).sub_(x)
            x_adv = project(delta, radius).add_(x).clamp_(*threat.box)
        near.judge(x_adv, logits_of(model, x_adv))
        return near.best


def _to_border(lead: Tensor, grad: Tensor, dual: float) -> Tensor:
    """(n,) distance at which a linear function with this value and gradient would be zero."""
    slope: Tensor = torch.linalg.vector_norm(grad.flatten(1), ord=dual, dim=1)
    return lead.abs() / slope.clamp_min(_TINY)


def _projection(threat: LpBall | PixelBudget) -> Callable[[Tensor, Tensor], Tensor]:
    """(delta (n, ...), radius (n,)) → delta in the ball, in place where that can be."""
    if isinstance(threat, PixelBudget):
        return lambda delta, radius: _most(delta, threat.grid(delta), radius)
    return {"linf": _linf, "l2": _l2, "l1": _l1}[threat.norm]


def _linf(delta: Tensor, radius: Tensor) -> Tensor:
    bound = per_row(radius, delta)
    return torch.clamp(delta, -bound, bound, out=delta)


def _l2(delta: Tensor, radius: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(_TINY)
    return delta.mul_(per_row(radius / length, delta))


def _l1(delta: Tensor, radius: Tensor) -> Tensor:
    """Every value shrinks by one t a row; t climbs to its place as values drop out (Michelot)."""
    size = delta.flatten(1).abs()
    t = size.new_zeros(len(size), 1)
    over = size.sum(1, keepdim=True) > radius[:, None]
    for _ in range(_ROUNDS):
        left = (size > t).to(size)
        new = ((size * left).sum(1, keepdim=True) - radius[:, None]) / left.sum(1, keepdim=True)
        new = torch.where(over & (left.sum(1, keepdim=True) > 0), new, t)
        if bool((new <= t).all()):
            break
        t = torch.maximum(t, new)
    return (size - t).clamp_min_(0).copysign_(delta.flatten(1)).reshape(delta.shape)


def _most(delta: Tensor, grid: Tensor, radius: Tensor) -> Tensor:
    """The `radius` (n,) pixels that changed most stay, with others of the same size."""
    size = grid.square().sum(1)
    count = radius.long()
    largest = max(1, int(count.max()))
    top = size.topk(largest, dim=1).values
    least = top.gather(1, (count - 1).clamp_min(0)[:, None])
    stay = (size >= least) & (count > 0)[:, None]
    return (grid * stay[:, None]).reshape(delta.shape)
