"""Gradient ascent on tables: a relaxed point follows the slope, beside it goes what can be sent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.attacks.engine import ActiveSet, gradient, kept, logits_of
from buckler.attacks.rows import table
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall
from buckler.threats.features import FeatureSpec, FeatureThreat, expression
from buckler.threats.features.legal import legal
from buckler.threats.features.repair import repair
from buckler.threats.features.threat import BALLS

_MOMENTUM = 0.75
_FAR = 1e6  # scaled units: no wall; the bounds of each column follow after the ball


@dataclass(frozen=True)
class CAPGD:
    """Constrained adaptive PGD (Simonetto et al. 2024, arXiv:2406.00775) with repair at every step.

    Deviations: the slope is taken at a relaxed point (whole numbers and levels let loose, derived
    columns recomputed and differentiated through), and each step is judged at a point near it that
    may be sent (`repair`, drawn back into the budget), so that rounding never hides a slope; steps
    are halved by row where a stretch brought nothing; for money and numbers of changes, where there
    is no ball to project on, the features that promise most for their price are kept.

    Args:
        steps: gradient steps a restart.
        restarts: the first starts at x, others at random points of the threat.
        step_size: fraction of the budget (of the ranges, for money and changes).
        loss: a name in buckler.losses.LOSSES.
    """

    steps: int = 30
    restarts: int = 2
    step_size: float = 0.5
    loss: str = "margin"
    name: str = "CAPGD"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.step_size > 0:
            raise UsageError(
                "CAPGD needs steps >= 1, restarts >= 1 and step_size > 0. "
                f"Got {self.steps}, {self.restarts}, {self.step_size}"
            )
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
        every, rows = table(model, x, y, threat, rows, self.name)
        active = ActiveSet(x, y, every.threat, rows)
        active.judge(active.x, logits_of(model, active.x))
        for restart in range(self.restarts):
            if restart:
                active.reopen()
            if not len(active):
                break
            start = active.x
            if restart:
                start = active.threat.random_point(active.x, seed, active.rows, restart)
            self._climb(_Through(model, every.threat.spec), active, start)
        return active.best

    def _climb(self, model: "_Through", active: ActiveSet, z: Tensor) -> None:
        before = z
        size = torch.full((len(z), 1), self.step_size).to(z)
        best, since = torch.full((len(z),), -torch.inf).to(z), torch.zeros(len(z)).to(z)
        patience = max(3, self.steps // 5)
        for _ in range(self.steps):
            threat = active.threat
            assert isinstance(threat, FeatureThreat)
            grad, logits = gradient(model, z, active.y, threat.goal, LOSSES[self.loss])
            objective = threat.goal.objective(logits, active.y)
            better = objective > best
            best, since = torch.maximum(best, objective), torch.where(better, 0.0, since + 1)
            size = torch.where((since >= patience)[:, None], size / 2, size)
            since = torch.where(since >= patience, 0.0, since)
            ahead = relaxed(threat, active.x, z + size * _reach(threat) * threat.steepest(grad))
            moved = z + _MOMENTUM * (ahead - z) + (1 - _MOMENTUM) * (z - before)
            z, before = relaxed(threat, active.x, moved), z
            sent = _sent(threat, active.x, z, grad)
            stay = active.judge(sent, logits_of(model.model, sent))
            if not len(active):
                return
            if not bool(stay.all()):
                z, before, size, best, since = kept(stay, z, before, size, best, since)


class _Through:
    """The model on relaxed rows: derived columns are recomputed, with their gradient."""

    def __init__(self, model: Classifier, spec: FeatureSpec) -> None:
        self.model, self.spec = model, spec

    def __call__(self, z: Tensor) -> Tensor:
        spec = self.spec
        if not spec.formulas:
            return self.model(z)
        columns = {
            each.name: z[:, start]
            for each, start in zip(spec.features, spec.starts, strict=True)
            if not each.onehot
        }
        parts = list(z.unbind(1))
        for index, tree in spec.formulas:
            fresh = expression.value(tree, columns).expand(len(z)).to(z.dtype)
            stored = z[:, spec.starts[index]]
            columns[spec.names[index]] = parts[spec.starts[index]] = torch.where(
                torch.isfinite(fresh), fresh, stored
            )
        return self.model(torch.stack(parts, 1))


def _reach(threat: FeatureThreat) -> Tensor | float:
    """How far, in shares of the ranges, a step of size 1 goes: (n, 1) or one number."""
    if threat.unit in ("money", "changes"):
        return 1.0
    budget = torch.as_tensor(threat.budget).float().clamp(max=1.0)
    return budget[:, None] if budget.ndim else float(budget)


def relaxed(threat: FeatureThreat, x: Tensor, z: Tensor) -> Tensor:
    """z (n, width) inside ranges, directions and the ball around x; levels and wholes let loose."""
    ranges = threat.ranges(x)
    free = ranges > 0
    low, high = _bounds(threat.spec, x)
    if threat.unit != "money" and threat.unit != "changes":
        budget = torch.as_tensor(threat.budget).to(x)
        eps = budget.clamp(1e-9, 1.0 if threat.unit == "linf" else _FAR)
        ball = LpBall(threat.unit, eps, (-_FAR, _FAR))
        scale = torch.where(free, ranges, 1.0)
        delta = torch.where(free, (z - x) / scale, 0.0)
        z = x + ball.project(torch.zeros_like(x), delta) * scale
    return torch.where(free, torch.minimum(torch.maximum(z, low), high), x)


def _bounds(spec: FeatureSpec, x: Tensor) -> tuple[Tensor, Tensor]:
    """What each of the classifier's columns may reach from x, (n, width) both."""
    low, high = x.clone(), x.clone()
    for feature, start in zip(spec.features, spec.starts, strict=True):
        part = slice(start, start + feature.wide)
        ends = (0.0, 1.0) if feature.onehot else feature.ends
        if feature.mutable and feature.change != "up":
            low[:, part] = x[:, part].clamp(max=ends[0])
        if feature.mutable and feature.change != "down":
            high[:, part] = x[:, part].clamp(min=ends[1])
    return low, high


def _sent(threat: FeatureThreat, x: Tensor, z: Tensor, grad: Tensor) -> Tensor:
    """The relaxed rows as rows that may be sent."""
    if threat.unit in BALLS:
        return threat.project(x, z)
    spec = threat.spec
    start, asked = spec.decode(x), repair(spec, spec.decode(x), spec.decode(z))
    raw = start.clone()
    promise = (grad * (z - x)).detach().cpu().double()
    gains = torch.stack(
        [
            promise[:, first : first + each.wide].sum(1)
            for each, first in zip(spec.features, spec.starts, strict=True)
        ],
        1,
    )
    single = torch.stack([_alone(threat, start, asked, index) for index in spec.mutable], 1)
    rate = gains[:, list(spec.mutable)] / (single + 1e-6)
    order = torch.tensor(spec.mutable)[rate.argsort(dim=1, descending=True)]
    for place in range(order.shape[1]):
        index = order[:, place : place + 1]
        ahead = repair(spec, start, raw.scatter(1, index, asked.gather(1, index)))
        fine = threat.affordable(start, ahead) & legal(spec, start, ahead)
        raw = torch.where(fine[:, None], ahead, raw)
    unchanged = (raw == start).all(1).to(x.device)[:, None]
    return torch.where(unchanged, x, spec.encode(raw, like=x))


def _alone(threat: FeatureThreat, start: Tensor, asked: Tensor, index: int) -> Tensor:
    """(n,) what the change of one feature spends."""
    one = start.clone()
    one[:, index] = asked[:, index]
    return threat.spent(start, one)
