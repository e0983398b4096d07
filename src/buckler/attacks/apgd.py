"""Auto-PGD: projected gradient descent whose step size looks after itself, row by row."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.apgd_l1 import climb_sparse
from buckler.attacks.engine import ActiveSet, gradient, kept, logits_of
from buckler.errors import UsageError
from buckler.losses import LOSSES, Loss
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal, LpBall
from buckler.threats.lp import per_row


@dataclass(frozen=True)
class APGD:
    """APGD-CE, APGD-DLR and, with `targets`, APGD-T, in an L∞, L2 or L1 ball.

    Croce and Hein 2020 (arXiv:2003.01690); L1: Croce and Hein 2021 (arXiv:2103.01208). Parameters
    are theirs. Deviations: every row carries its own step size and checkpoints and leaves once it
    is won; x itself is judged first; at the first checkpoint, step 1 is compared with the start
    (their code compares it with zero).

    Args:
        steps: gradient steps a restart and target.
        restarts: each from a random point on the ball's surface.
        loss: a name in buckler.losses.LOSSES; "dlr" becomes "pair" where classes are too few.
        targets: 0, or how many of the best other classes of x are climbed to, one after another.
        rho: share of steps that must improve, else the step is halved.
        widen: L1 only: 0.3 of the steps at three times eps, 0.3 at twice, the rest at eps.
        together: how many restarts and targets of a row climb side by side, as rows of one batch:
            for accelerators that few rows leave idle. It costs more where an early one wins.
    """

    steps: int = 100
    restarts: int = 1
    loss: str = "ce"
    targets: int = 0
    rho: float = 0.75
    widen: bool = False
    together: int = 1
    name: str = "APGD"

    def __post_init__(self) -> None:
        counts = (self.steps, self.restarts, self.together)
        if min(counts) < 1 or self.targets < 0 or not 0 < self.rho <= 1:
            raise UsageError(
                "APGD needs steps, restarts and together >= 1, targets >= 0 and 0 < rho <= 1. Got "
                f"steps={self.steps}, restarts={self.restarts}, together={self.together}, "
                f"targets={self.targets}, rho={self.rho}"
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
        if not isinstance(threat, LpBall):
            raise UsageError(f"APGD needs an L-infinity, L2 or L1 ball. Got {threat}")
        if self.widen and threat.norm != "l1":
            raise UsageError(f"widen is for an L1 ball. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        logits = logits_of(model, x)
        active.judge(x, logits)
        ranked = best_targets(logits, y, threat.goal, self.targets)
        loss = self._loss(logits.shape[1])
        runs = [(r, t) for r in range(self.restarts) for t in range(max(1, ranked.shape[1]))]
        for first in range(0, len(runs), self.together):
            active.reopen()
            group = runs[first : first + self.together]
            starts = [start_points(active, draws.derive(seed, *run)) for run in group]
            lanes = active if len(group) == 1 else active.repeated(len(group))
            goal = lanes.threat.goal
            if ranked.shape[1]:
                goal = Goal("targeted", torch.cat([ranked[active.index, t] for _, t in group]))
            climb_from(
                model, lanes, goal, loss, self.steps, torch.cat(starts), self.rho, self.widen
            )
            if lanes is not active:
                active.record(*lanes.best_of(len(group)))
        return active.best

    def _loss(self, classes: int) -> Loss:
        if self.loss == "dlr" and classes < (4 if self.targets else 3):
            return LOSSES["pair"]
        return LOSSES[self.loss]


def climb_from(
    model: Classifier,
    active: ActiveSet,
    goal: Goal,
    loss: Loss,
    steps: int,
    x_adv: Tensor,
    rho: float = 0.75,
    widen: bool = False,
) -> None:
    """One run of APGD on the active rows from x_adv, towards `goal`."""
    threat = active.threat
    assert isinstance(threat, LpBall)
    if not len(active):
        return
    if threat.norm != "l1":
        climb(model, active, goal, loss, x_adv, steps, rho)
        return
    wide = math.ceil(0.3 * steps) if widen else 0
    for factor in (3, 2) if wide else ():
        x_adv = climb_sparse(model, active, goal, loss, x_adv, wide, factor, fresh=factor == 3)
    climb_sparse(model, active, goal, loss, x_adv, steps - 2 * wide, fresh=not wide)


def start_points(active: ActiveSet, seed: int) -> Tensor:
    """Where a run begins: a random point of the ball's surface; in L1, x and noise."""
    assert isinstance(active.threat, LpBall)
    if active.threat.norm != "l1":
        return _surface_point(active, seed)
    return active.x + draws.normal(seed, active.rows, 0, tuple(active.x.shape[1:])).to(active.x)


def climb(
    model: Classifier,
    active: ActiveSet,
    goal: Goal,
    loss: Loss,
    x_adv: Tensor,
    steps: int,
    rho: float = 0.75,
) -> None:
    """Algorithm 1 of the paper on the active rows, towards `goal`; judged by the threat's own."""
    check, shorter, shortest = (max(1, int(share * steps)) for share in (0.22, 0.03, 0.06))
    due, pull = check, 1.0
    grad, logits = gradient(model, x_adv, active.y, goal, loss)
    value = loss(logits, active.y, goal)
    best, best_grad, top, last_top = x_adv.clone(), grad.clone(), value, value
    before, size = x_adv, torch.full_like(value, 2.0)  # of eps
    rises, halved = torch.zeros_like(value), torch.ones_like(value, dtype=torch.bool)
    point = x_adv
    for step in range(1, steps + 2):
        stay = active.judge(point, logits)
        if step > steps or not len(active):
            return
        if len(active) < len(stay):
            goal = goal.take(stay)
            rows = (x_adv, before, grad, value, best, best_grad, top, last_top, size, rises, halved)
            x_adv, before, grad, value, best, best_grad, top, last_top, size, rises, halved = kept(
                stay, *rows
            )
        point = _move(active, x_adv, before, grad, size, pull)
        before, x_adv, pull, last = x_adv, point, 0.75, value
        grad, logits = gradient(model, x_adv, active.y, goal, loss)
        value = loss(logits, active.y, goal)
        rises = rises + (value > last)
        better = (value > top).nonzero()[:, 0]
        best.index_copy_(0, better, x_adv[better])
        best_grad.index_copy_(0, better, grad[better])
        top = torch.maximum(top, value)
        if step == due:
            stalled = (rises <= rho * check) | (~halved & (last_top >= top))
            size = torch.where(stalled, size / 2, size)
            again = stalled.nonzero()[:, 0]
            x_adv = x_adv.index_copy(0, again, best[again])
            grad = grad.index_copy(0, again, best_grad[again])
            halved, last_top, rises = stalled, top, torch.zeros_like(rises)
            check = max(check - shorter, shortest)
            due += check


def best_targets(logits: Tensor, y: Tensor, goal: Goal, count: int) -> Tensor:
    """(n, ≤ count) the classes an attacker wins with, likeliest first."""
    allowed = goal.allowed(y, logits.shape[1])
    count = min(count, int(allowed.sum(1).min()) if len(y) else 0)
    return logits.masked_fill(~allowed, -torch.inf).topk(count, dim=1).indices


def _surface_point(active: ActiveSet, seed: int) -> Tensor:
    """A random point of the ball's surface, cut by the box."""
    x, threat = active.x, active.threat
    assert isinstance(threat, LpBall)
    shape = tuple(x.shape[1:])
    if threat.norm == "linf":
        noise = 2 * draws.uniform(seed, active.rows, 0, shape).to(x) - 1
        size = noise.flatten(1).abs().amax(1)
    else:
        noise = draws.normal(seed, active.rows, 0, shape).to(x)
        size = torch.linalg.vector_norm(noise.flatten(1), dim=1)
    noise = noise / per_row(size.clamp_min(1e-12), x)
    return (x + per_row(threat.eps, x) * noise).clamp(*threat.box)


def _move(
    active: ActiveSet, x_adv: Tensor, before: Tensor, grad: Tensor, size: Tensor, pull: float
) -> Tensor:
    """A step of size · eps, then `pull` of it and the rest of the last move's direction."""
    x, threat = active.x, active.threat
    assert isinstance(threat, LpBall)
    length = per_row(size, x) * per_row(threat.eps, x)
    ahead = _into(threat, x, x_adv + length * threat.steepest(grad))
    mixed = torch.lerp(x_adv, ahead, pull)
    mixed = mixed.add_(x_adv, alpha=1 - pull).sub_(before, alpha=1 - pull)
    return _into(threat, x, mixed)


def _into(threat: LpBall, x: Tensor, x_adv: Tensor) -> Tensor:
    """L∞: the nearest point of ball and box. L2: as the paper has it, straight back, then cut."""
    if threat.norm == "linf":
        return threat.project(x, x_adv)
    delta = x_adv - x
    length = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    eps = torch.as_tensor(threat.eps, dtype=x.dtype, device=x.device)
    share = (eps / length.clamp_min(1e-12)).clamp_max(1)
    return torch.addcmul(x, delta, per_row(share, x)).clamp_(*threat.box)
