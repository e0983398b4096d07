"""DeepFool: step after step to the nearest border of a linear picture of the model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.attacks.apgd import best_targets
from buckler.attacks.engine import checked, logits_of
from buckler.attacks.nearest import Nearest
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal, LpBall
from buckler.threats.rows import parts

_PAST = 1e-4  # added to each distance, of the box's width: the border itself is no win
_TINY = 1e-12


@dataclass(frozen=True)
class DeepFool:
    """A near winning point in L∞ or L2, inside the box, at the price of a few gradients a class.

    Moosavi-Dezfooli et al. 2016 (arXiv:1511.04599). Deviations: rows leave when they are won,
    points stay inside the box, and after the first step only the borders that were nearest are
    looked at. The threat's eps is not looked at.

    Args:
        steps: at most so many, each one gradient for every class that is tried.
        classes: how many of x's likeliest winning classes are tried in the first step.
        keep: how many of those, the nearest, are tried in the steps after it.
        overshoot: share by which the sum of the steps is overdone, to pass the border.
    """

    steps: int = 50
    classes: int = 9
    keep: int = 3
    overshoot: float = 0.02
    name: str = "DeepFool"

    def __post_init__(self) -> None:
        if min(self.steps, self.classes, self.keep) < 1 or not self.overshoot >= 0:
            raise UsageError(
                "DeepFool needs steps >= 1, classes >= 1, keep >= 1 and overshoot >= 0. "
                f"Got steps={self.steps}, classes={self.classes}, keep={self.keep}, "
                f"overshoot={self.overshoot}"
            )

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
        if not isinstance(threat, LpBall) or threat.norm == "l1":
            raise UsageError(f"DeepFool needs an L-infinity or L2 ball. Got {threat}")
        near = Nearest(x, y, threat, rows)
        x = near.x
        if not len(x):
            return near.best
        logits, width = logits_of(model, x), threat.box[1] - threat.box[0]
        targets = best_targets(logits, y, threat.goal, self.classes)
        x_adv, total = x, torch.zeros_like(x)
        for _ in range(self.steps):
            stay = near.judge(x_adv, logits) <= 0
            if not bool(stay.all()):
                near.keep(stay)
                x_adv, total, targets = x_adv[stay], total[stay], targets[stay]
            if not len(near):
                return near.best
            lead, slopes = _borders(model, x_adv, near.y, near.threat.goal, targets)
            move, order = _step(threat.norm, lead, slopes, _PAST * width)
            total = total + move.reshape(total.shape)
            targets = targets.gather(1, order[:, : self.keep])
            x_adv = torch.add(near.x, total, alpha=1 + self.overshoot).clamp_(*threat.box)
            logits = logits_of(model, x_adv)
        near.judge(x_adv, logits)
        return near.best


def _borders(
    model: Classifier, x: Tensor, y: Tensor, goal: Goal, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Each target's lead over the best losing logit, (n, m), and its gradients, (n, m, d)."""
    leads, slopes = [], []
    for part in parts(x):
        points = x[part].detach().requires_grad_(True)
        with torch.enable_grad():
            logits = checked(model(points), points)
            if not logits.requires_grad:
                raise UsageError(
                    "DeepFool needs gradients, and none reaches the input of this model: use a "
                    "black-box attack (Square, OnePixel), or give the model's own torch module"
                )
            allowed = goal.take(part).allowed(y[part], logits.shape[1])
            losing = logits.masked_fill(allowed, -torch.inf).amax(1, keepdim=True)
            lead = logits.gather(1, targets[part]) - losing
            each = [
                torch.autograd.grad(one.sum(), points, retain_graph=True)[0].flatten(1)
                for one in lead.unbind(1)
            ]
        leads.append(lead.detach().to(points.dtype))
        slopes.append(torch.stack(each, 1))
    return torch.cat(leads), torch.cat(slopes)


def _step(norm: str, lead: Tensor, slopes: Tensor, past: float) -> tuple[Tensor, Tensor]:
    """(n, d) the shortest step over the nearest border; (n, m) the borders, nearest first."""
    dual = torch.linalg.vector_norm(slopes, ord=1 if norm == "linf" else 2, dim=2).clamp_min(_TINY)
    far, order = (lead.abs() / dual).sort(1)
    each, nearest = torch.arange(len(lead), device=lead.device), order[:, 0]
    slope, dual = slopes[each, nearest], dual[each, nearest]
    unit: Tensor = slope.sign() if norm == "linf" else slope / dual[:, None]
    return unit * (far[:, :1] + past), order
