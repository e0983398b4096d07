"""FAB-T: to the border of one class after another, drawn back towards x on the way."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.apgd import best_targets
from buckler.attacks.engine import gradient, kept, logits_of
from buckler.attacks.fab_projections import onto_plane
from buckler.attacks.nearest import Nearest, search_towards_x
from buckler.errors import UsageError
from buckler.losses import Loss
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal, LpBall
from buckler.threats.goal import Kind
from buckler.threats.lp import per_row

_TINY = 1e-8


@dataclass(frozen=True)
class FAB:
    """The nearest winning point in L∞, L2 or L1, inside the box.

    Croce and Hein 2020 (arXiv:1907.02044), with AutoAttack's parameters (FAB-T). Deviations: the
    gradient of a point that wins is taken there, not at the point it is drawn back to, so that one
    forward serves as judgement and as the next step's; rows stay for all targets, except `within`.

    Args:
        steps: gradient steps a target and restart.
        targets: how many of x's likeliest winning classes are tried, one after another.
        restarts: the first starts at x, others at random, at most eps / 2 away.
        pull: largest share of the step from x itself, not from the last point (alpha_max).
        overshoot: by which steps pass the border (eta).
        back: share of the way from x that is kept after a win (beta).
        search: forwards a row in the end, for a nearer point on the way to x.
        within: True: only wins inside the threat count; rows leave with the first.
    """

    steps: int = 100
    targets: int = 9
    restarts: int = 1
    pull: float = 0.1
    overshoot: float = 1.05
    back: float = 0.9
    search: int = 3
    within: bool = False
    name: str = "FAB"

    def __post_init__(self) -> None:
        if min(self.steps, self.targets, self.restarts) < 1 or self.search < 0:
            raise UsageError(
                "FAB needs steps >= 1, targets >= 1, restarts >= 1 and search >= 0. "
                f"Got steps={self.steps}, targets={self.targets}, restarts={self.restarts}, "
                f"search={self.search}"
            )
        if not (0 <= self.pull <= 1 <= self.overshoot and 0 < self.back < 1):
            raise UsageError(
                "FAB needs 0 <= pull <= 1, overshoot >= 1 and 0 < back < 1. "
                f"Got pull={self.pull}, overshoot={self.overshoot}, back={self.back}"
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
        if not isinstance(threat, LpBall):
            raise UsageError(f"FAB needs an L-infinity, L2 or L1 ball. Got {threat}")
        near = Nearest(x, y, threat, rows)
        x = near.x
        if not len(x):
            return near.best
        logits = logits_of(model, x)
        near.judge(x, logits)
        clean = near.objective.clone()
        targets = best_targets(logits, y, threat.goal, self.targets)
        for restart in range(self.restarts):
            for rank in range(targets.shape[1]):
                near.reopen(near.distance > 0 if not self.within else ~_won_inside(near, threat, x))
                if not len(near):
                    break
                x_adv = near.x if restart == 0 else _start(near, restart, draws.derive(seed, rank))
                self._walk(model, near, targets[near.index, rank], x_adv)
        if self.within:
            return _inside(model, near, threat, x, y, clean)
        search_towards_x(model, near, clean, self.search)
        return near.best

    def _walk(self, model: Classifier, near: Nearest, target: Tensor, x_adv: Tensor) -> None:
        """The paper's Algorithm 1 on the active rows, towards the border of `target`."""
        assert isinstance(near.threat, LpBall)
        norm, box, lead = near.threat.norm, near.threat.box, _lead(near.threat.goal.kind)
        for _ in range(self.steps):
            goal = Goal("targeted", target)
            grad, logits = gradient(model, x_adv, near.y, goal, lead)
            won = near.judge(x_adv, logits) > 0
            gap = lead(logits, near.y, goal).to(x_adv.dtype)
            if self.within and bool(won.any()):
                stay = ~(won & near.threat.contains(near.x, x_adv))
                near.keep(stay)
                if not len(near):
                    return
                state = (x_adv, grad, gap, won, target)
                x_adv, grad, gap, won, target = kept(stay, *state)
            x, slope = near.x.flatten(1), grad.flatten(1)
            offset = gap - (slope * x_adv.flatten(1)).sum(1)  # the plane is slope · z + offset = 0
            point = torch.lerp(x, x_adv.flatten(1), torch.where(won, self.back, 1.0).to(x)[:, None])
            ahead = onto_plane(norm, point, slope, (slope * point).sum(1) + offset, box)
            home = onto_plane(norm, x, slope, (slope * x).sum(1) + offset, box)
            length, length_home = (_length(norm, move).clamp_min(_TINY) for move in (ahead, home))
            share = (length / (length + length_home)).clamp_max(self.pull)[:, None]
            point.add_(ahead, alpha=self.overshoot)
            home.mul_(self.overshoot).add_(x)
            x_adv = point.lerp_(home, share).clamp_(*box).reshape(x_adv.shape)
        near.judge(x_adv, logits_of(model, x_adv))


def _lead(kind: Kind) -> Loss:
    """Target's logit − best losing logit, by the attacker's own goal (untargeted: the truth's)."""

    def lead(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
        target = torch.as_tensor(goal.target, device=y.device)
        own = logits.gather(1, target[:, None])[:, 0]
        if kind == "untargeted":
            return own - logits.gather(1, y[:, None])[:, 0]
        wins = Goal(kind, target if kind == "targeted" else None).allowed(y, logits.shape[1])
        return own - logits.masked_fill(wins, -torch.inf).amax(1)

    return lead


def _length(norm: str, move: Tensor) -> Tensor:
    if norm == "linf":
        return move.abs().amax(1)
    length: Tensor = torch.linalg.vector_norm(move, ord=2 if norm == "l2" else 1, dim=1)
    return length


def _start(near: Nearest, restart: int, seed: int) -> Tensor:
    """A point in a random direction, at half of eps or of the nearest win's distance."""
    x, threat = near.x, near.threat
    assert isinstance(threat, LpBall)
    shape = tuple(x.shape[1:])
    if threat.norm == "linf":
        move = 2 * draws.uniform(seed, near.rows, restart, shape).to(x) - 1
    else:
        move = draws.normal(seed, near.rows, restart, shape).to(x)
    eps = torch.as_tensor(threat.eps, dtype=x.dtype, device=x.device)
    far = torch.minimum(near.distance[near.index], eps) / 2
    length = _length(threat.norm, move.flatten(1)).clamp_min(_TINY)
    return (x + per_row(far / length, x) * move).clamp(*threat.box)


def _won_inside(near: Nearest, threat: LpBall, x: Tensor) -> Tensor:
    """(all rows,) bool: a win inside the threat is known."""
    return torch.isfinite(near.distance) & threat.contains(x, near.best)


def _inside(
    model: Classifier, near: Nearest, threat: LpBall, x: Tensor, y: Tensor, clean: Tensor
) -> Tensor:
    """Nearest wins where they lie inside; else the best point pulled inside, or x if it is better.

    clean: (n,) the objective at x.
    """
    lost = (~_won_inside(near, threat, x)).nonzero()[:, 0]
    if not len(lost):
        return near.best
    threat = threat.take(lost)
    point = threat.project(x[lost], near.best[lost])
    objective = threat.goal.objective(logits_of(model, point), y[lost])
    better = per_row(objective, point) > per_row(clean[lost], point)
    return near.best.index_copy(0, lost, torch.where(better, point, x[lost]))
