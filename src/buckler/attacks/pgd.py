"""Projected gradient descent: the attack to beat."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from buckler.attacks.engine import ActiveSet, gradient, kept, logits_of
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall, PixelBudget
from buckler.threats.lp import per_row
from buckler.threats.rows import parts


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent in an L∞, L2 or L1 ball, or a pixel budget (L0).

    Madry et al. 2018 (arXiv:1706.06083); L1: Tramèr and Boneh 2019 (arXiv:1904.13000) with the
    exact projection of Croce and Hein 2021; L0: Croce and Hein 2019 (arXiv:1909.05040); momentum:
    Dong et al. 2018 (arXiv:1710.06081). Deviations: the best point is kept, every iterate is judged
    (the last one too), won rows leave the batch, and steps shrink linearly to a tenth over the run
    where `decay` is set.

    Args:
        steps: gradient steps a restart.
        step_size: fraction of eps; for a pixel budget, of the box's width.
        restarts: the first starts at x (at a random point if `random_start`), others at random.
        loss: a name in buckler.losses.LOSSES.
        momentum: share of the gradients before that is kept (1.0: MI-FGSM), each at L1 norm 1.
        stop: won rows leave at once; False: they climb on, and the point of largest margin returns.
        pool: (m, ...) inputs; then restart r starts from the pool's r-th nearest input that wins,
            projected into the ball: the way round a detector that x itself cannot see.
    """

    steps: int = 40
    step_size: float = 0.1
    restarts: int = 1
    loss: str = "ce"
    random_start: bool = False
    decay: bool = False
    momentum: float = 0.0
    stop: bool = True
    pool: Tensor | None = field(default=None, repr=False, compare=False)
    name: str = "PGD"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.step_size > 0:
            raise UsageError(
                "PGD needs steps >= 1, restarts >= 1 and step_size > 0 (a fraction of eps). "
                f"Got steps={self.steps}, restarts={self.restarts}, step_size={self.step_size}"
            )
        if self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}. Got {self.loss!r}")
        if not self.momentum >= 0:
            raise UsageError(f"momentum must be >= 0. Got {self.momentum}")

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
                f"PGD needs an L-infinity, L2 or L1 ball or a PixelBudget. Got {threat}"
            )
        active = ActiveSet(x, y, threat, rows)
        pool = None if self.pool is None else _Pool(model, self.pool.to(x))
        for restart in range(self.restarts):
            if restart:
                active.reopen()
            if not len(active):
                break
            self._climb(model, active, self._start(active, pool, restart, seed))
        return active.best

    def _start(self, active: ActiveSet, pool: "_Pool | None", restart: int, seed: int) -> Tensor:
        if pool is not None:
            return pool.start(active, restart)
        if restart or self.random_start:
            return active.threat.random_point(active.x, seed, active.rows, restart)
        return active.x

    def _climb(self, model: Classifier, active: ActiveSet, x_adv: Tensor) -> None:
        loss, velocity = (
            LOSSES[self.loss],
            torch.zeros_like(x_adv if self.momentum else x_adv[:, :0]),
        )
        for step in range(self.steps):
            size = self.step_size * (1 - 0.9 * step / self.steps if self.decay else 1)
            logits, ahead = [], torch.empty_like(x_adv)
            for part in parts(x_adv):  # each part's step follows while its gradient is in the cache
                threat = active.threat.take(part)
                grad, found = gradient(model, x_adv[part], active.y[part], threat.goal, loss)
                if self.momentum:
                    mean = grad.flatten(1).abs().mean(1).clamp_min(torch.finfo(grad.dtype).tiny)
                    grad = velocity[part] = self.momentum * velocity[part] + grad / per_row(
                        mean, grad
                    )
                ahead[part] = ascend(threat, active.x[part], x_adv[part], grad, size)
                logits.append(found)
            stay = active.judge(x_adv, torch.cat(logits), drop=self.stop)
            if not len(active):
                return
            x_adv = ahead
            if len(active) < len(stay):
                x_adv, velocity = kept(stay, ahead, velocity)
        active.judge(x_adv, logits_of(model, x_adv), drop=self.stop)


def ascend(threat: Threat, x: Tensor, x_adv: Tensor, grad: Tensor, size: float) -> Tensor:
    """One step of `size` (fraction of the threat's radius) along the steepest way, projected."""
    move = threat.steepest(grad)
    radius = threat.eps if isinstance(threat, LpBall) else threat.box[1] - threat.box[0]
    return threat.project(x, torch.addcmul(x_adv, per_row(radius, x), move, value=size))


class _Pool:
    """Inputs that may serve as starts, with the model's logits of each."""

    def __init__(self, model: Classifier, inputs: Tensor) -> None:
        self.inputs = inputs
        self.logits = logits_of(model, inputs)

    def start(self, active: ActiveSet, rank: int) -> Tensor:
        """The rank-th nearest input with which each row would win, pulled into its ball."""
        n, m = len(active), len(self.inputs)
        every = self.logits.repeat(n, 1)
        owner = torch.arange(n, device=every.device).repeat_interleave(m)
        goal = active.threat.goal.take(owner)
        wins = goal.objective(every, active.y[owner]).reshape(n, m) > 0
        far = torch.cdist(active.x.flatten(1), self.inputs.flatten(1)).masked_fill(~wins, torch.inf)
        nearest, index = far.sort(1)
        rank = min(rank, m - 1)
        found = torch.isfinite(nearest[:, rank]).reshape(-1, *[1] * (active.x.ndim - 1))
        start = torch.where(found, self.inputs[index[:, rank]], active.x)
        return active.threat.project(active.x, start)
